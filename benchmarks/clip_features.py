"""What the features of clips see: FVD of real clips that were damaged, beside that of whole ones (the floor).

Needs `rdm extractor` of the scores that it looks at. Writes benchmarks/results/clip-features.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rdm import params
from rdm.provenance.files import write_json
from rdm.score.scorer import Scorer
from rdm.score.stage import floor_items

SEED = 0


def shuffled(clips: np.ndarray) -> np.ndarray:
    """The frames in another order, the same for all clips."""
    return clips[:, np.random.default_rng(SEED).permutation(clips.shape[1])]


def frozen(clips: np.ndarray) -> np.ndarray:
    """The first frame throughout."""
    return np.repeat(clips[:, :1], clips.shape[1], axis=1)


def backwards(clips: np.ndarray) -> np.ndarray:
    """The last frame first."""
    return clips[:, ::-1]


def noisy(clips: np.ndarray) -> np.ndarray:
    """Gaussian noise of a standard deviation of 0.3 on pixels in [-1, 1]."""
    noise = np.random.default_rng(SEED).normal(0, 0.3 * 127.5, clips.shape)
    return np.clip(np.rint(clips + noise), 0, 255).astype(np.uint8)


def other_digits(clips: np.ndarray) -> np.ndarray:
    """Every frame from another clip of the set: the motion of none."""
    chosen = np.random.default_rng(SEED).integers(len(clips), size=clips.shape[:2])
    return clips[chosen, np.arange(clips.shape[1])]


DAMAGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "floor": lambda clips: clips,
    "shuffled frames": shuffled,
    "frozen first frame": frozen,
    "backwards": backwards,
    "noise": noisy,
    "frames of other clips": other_digits,
}


def measure(experiment: params.Experiment, score: str) -> dict[str, float]:
    """FVD of each kind of damage to the real clips of the floor."""
    scorer = Scorer(experiment, score)
    real, order, reference = floor_items(scorer)
    clips, found = real.images[order], {}
    for name, damage in DAMAGES.items():
        items = scorer.items(damage(clips), np.arange(len(clips)))
        features = scorer.features(items, 0, scorer.count(items) * scorer.protocol.frames)
        estimates, _ = scorer.score(features, None, reference)
        found[name] = round(estimates["fvd"].value, 3)
    return found


def main() -> None:
    """One row per score whose protocol is of clips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", default="params/digits.yaml")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/clip-features.json"))
    options = parser.parse_args()
    experiment = params.load(options.params)
    protocols = experiment.protocols.items()
    scores = [name for name, protocol in protocols if protocol.clips is not None and not protocol.clips.as_frames]
    result = {score: measure(experiment, score) for score in scores}
    for score, values in result.items():
        print(score, values)
    write_json(options.out, result)


if __name__ == "__main__":
    main()
