"""One YAML file per experiment, read into typed, frozen objects."""

from rdm.params.experiment import CONTROL, DEVICE, FLOOR, UNSUPERVISED, Experiment
from rdm.params.files import load

__all__ = ["CONTROL", "DEVICE", "FLOOR", "UNSUPERVISED", "Experiment", "load"]
