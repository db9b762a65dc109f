"""Moving digits: clips of scikit-learn's real handwritten digits that fall, bounce and drift. Nothing is stored.

A digit of half the frame's size starts at the top, at the left or the right border, and drifts to the other one, where
it turns back. It falls with y ~ t^1.5 and bounces off the ground to half its height, so that a clip played backwards
looks different. A slow digit does not get that far. Positions are rounded to cells of `cell` pixels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from rdm.data.digits import read_digits
from rdm.params.schema import MovingDigitsData

SPEEDS = {"slow": 0.5, "fast": 1.5}  # in one clip, so many times from border to border, and from the top to the ground
BOUNCE = 0.5  # of the height fallen
DIRECTIONS = ("right", "left")


def course(direction: str, speed: str, frames: int, reach: int, cell: int) -> np.ndarray:
    """The top left corner of the digit in each frame, int64 (frames, 2) as (y, x), each from 0 to `reach` pixels."""
    time = np.arange(frames) / (frames - 1)
    across = SPEEDS[speed] * time
    x = 1 - np.abs(across % 2 - 1)  # there and back
    if direction == "left":
        x = 1 - x
    y = _height(SPEEDS[speed] * time)
    return np.stack([_rounded(y * reach, cell), _rounded(x * reach, cell)], axis=1)


def _height(fallen: np.ndarray) -> np.ndarray:
    """Distance from the top, 0 to 1: the fall ends at time 1, the bounce peaks half way up at 1.5 and ends at 2."""
    bounce = 1 - BOUNCE * (1 - np.square(2 * (fallen - 1) - 1))
    height: np.ndarray = np.where(fallen <= 1, np.clip(fallen, 0, 1) ** 1.5, bounce)
    return height


def _rounded(pixels: np.ndarray, cell: int) -> np.ndarray:
    cells: np.ndarray = np.rint(pixels / cell).astype(np.int64) * cell
    return cells


class MovingDigits:
    """Clips as an array would give them: uint8 (N, T, H, W, 1), each made when it is asked for.

    digits: uint8 (n, h, w, 1). courses: the digit's place in each frame, int64 (motions, T, 2).
    order: int64 (N,), the combination of a motion and a digit that each clip shows.
    """

    def __init__(self, digits: np.ndarray, courses: np.ndarray, order: np.ndarray, size: int) -> None:
        self._digits, self._courses, self._order = digits, courses, order
        self.shape = (len(order), courses.shape[1], size, size, 1)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """The clips of these numbers, uint8 (n, T, H, W, 1)."""
        combinations = self._order[index]
        clips = np.zeros((len(combinations), *self.shape[1:]), np.uint8)
        height, width = self._digits.shape[1:3]
        for clip, combination in zip(clips, combinations, strict=True):
            motion, digit = divmod(int(combination), len(self._digits))
            for frame, (y, x) in zip(clip, self._courses[motion], strict=True):
                frame[y : y + height, x : x + width] = self._digits[digit]
        return clips


def open_moving_digits(
    parameters: MovingDigitsData, split: Literal["train", "test"]
) -> tuple[MovingDigits, np.ndarray, np.ndarray]:
    """The clips of a split, their digits and their motions, int64 (N,) each; clip i is a function of (seed, i).

    Every combination of a digit and a motion comes once before one comes again.
    """
    size = parameters.image_size
    chosen = dict(zip(("train", "test"), read_digits(size // 2, parameters.test_fraction, 0), strict=True))[split]
    kept = np.isin(chosen.labels, parameters.digits)
    digits, labels = np.stack(list(chosen.pixels))[kept], chosen.labels[kept]
    motions = [(direction, speed) for speed in parameters.speeds for direction in DIRECTIONS]
    courses = [course(*motion, parameters.frames, size - size // 2, parameters.cell) for motion in motions]
    count, combinations = (parameters.clips if split == "train" else parameters.test_clips), len(digits) * len(motions)
    key = [parameters.seed, ("train", "test").index(split)]
    epochs = range(-(-count // combinations))
    order = np.concatenate([np.random.default_rng([*key, epoch]).permutation(combinations) for epoch in epochs])[:count]
    clips = MovingDigits(digits, np.stack(courses), order, size)
    return clips, labels[order % len(digits)], (order // len(digits)).astype(np.int64)
