"""One YAML file per experiment, read into typed, frozen objects."""

from rdm.params.experiment import CONTROL, CONTROL_ROW, DEVICE, FLOOR, UNSUPERVISED, Experiment
from rdm.params.files import load, load_claims

__all__ = ["CONTROL", "CONTROL_ROW", "DEVICE", "FLOOR", "UNSUPERVISED", "Experiment", "load", "load_claims"]
