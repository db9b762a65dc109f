"""scikit-learn's handwritten digits: 1,797 real images that come with the package."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rdm.data.images import Source, Split, enlarge
from rdm.params.schema import DigitsData


def open_digits(parameters: DigitsData) -> Source:
    """Both splits, with equal class proportions, in an order that mixes the classes."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # 16 grey levels, 8x8
    train, test = train_test_split(
        np.arange(len(images)),
        test_size=parameters.test_fraction,
        random_state=parameters.split_seed,
        stratify=digits.target,
    )

    def split(items: np.ndarray) -> Split:
        return Split((enlarge(images[i], parameters.image_size) for i in items), digits.target[items].astype(np.int64))

    return Source(
        train=split(train),
        test=split(test),
        channels=1,
        classes=[str(digit) for digit in range(10)],
        origin="scikit-learn load_digits: UCI Optical Recognition of Handwritten Digits, Alpaydin and Kaynak (1998)",
        licence="CC BY 4.0",
    )
