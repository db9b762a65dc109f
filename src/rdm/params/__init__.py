"""One YAML file per experiment, read into typed, frozen objects."""

from rdm.params.experiment import CONTROL, UNSUPERVISED, Experiment
from rdm.params.files import load

__all__ = ["CONTROL", "UNSUPERVISED", "Experiment", "load"]
