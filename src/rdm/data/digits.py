"""scikit-learn's handwritten digits: 1,797 real images that come with the package; each gets a caption here."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rdm.data.images import Source, Split, enlarge
from rdm.errors import RdmError
from rdm.params.schema import DigitsData
from rdm.randomness import seed_of

CLASSES = [str(digit) for digit in range(10)]
ORIGIN = "scikit-learn load_digits: UCI Optical Recognition of Handwritten Digits, Alpaydin and Kaynak (1998)"
LICENCE = "CC BY 4.0"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = ("a handwritten {}", "the digit {}", "a picture of the number {}", "{} written by hand")


def read_digits(size: int, test_fraction: float, split_seed: int) -> tuple[Split, Split]:
    """The training and the held-out digits, (size, size, 1), with equal class proportions, classes mixed.

    The caption of a digit is a function of (split_seed, its number in the whole set), in whichever split it is.
    """
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # 16 grey levels, 8x8
    try:
        train, test = train_test_split(
            np.arange(len(images)), test_size=test_fraction, random_state=split_seed, stratify=digits.target
        )
    except ValueError:
        raise RdmError(
            f"test_fraction: {test_fraction} of {len(images)} digits leaves a split without one of each; set 0.2."
        ) from None

    def split(items: np.ndarray) -> Split:
        captions = [[caption(int(digits.target[i]), split_seed, int(i))] for i in items]
        return Split((enlarge(images[i], size) for i in items), digits.target[items].astype(np.int64), captions)

    return split(train), split(test)


def caption(digit: int, seed: int, index: int) -> str:
    """A sentence that names the digit: one of the templates, chosen by (seed, index)."""
    return TEMPLATES[seed_of(seed, "caption", index) % len(TEMPLATES)].format(WORDS[digit])


def open_digits(parameters: DigitsData) -> Source:
    """Both splits."""
    train, test = read_digits(parameters.image_size, parameters.test_fraction, parameters.split_seed)
    return Source(train, test, channels=1, classes=CLASSES, origin=ORIGIN, licence=LICENCE)
