"""Scores of images and clips: FID, sFID, IS, precision and recall, KID, FVD, equal to the reference implementations.

The mathematics works on features from anywhere; `rdm score` is the command line around it.
"""

from rdm.score.frechet import frechet_distance
from rdm.score.inception_score import inception_score
from rdm.score.kernel import kernel_distance
from rdm.score.neighbours import precision_recall
from rdm.score.statistics import FeatureStatistics, Moments

__all__ = [
    "FeatureStatistics",
    "Moments",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "precision_recall",
]
