"""What a source of images gives to the `data` stage, and the pixels' way to a common size."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from rdm.ahead import ahead
from rdm.errors import RdmError

AGAIN = ", or remove its data set's folder in results/data and run `rdm data` again"


@dataclass
class Split:
    """One split of a data set: images of (H, W, C) or clips of (T, H, W, C), uint8, and their labels, int64 (N,).

    `pixels` yields one item at a time, so that a set larger than memory can be stored.
    captions: of each item as many; None: there are none. photographs: the files of the pixels, if each has one.
    """

    pixels: Iterator[np.ndarray]
    labels: np.ndarray
    captions: list[list[str]] | None = None
    photographs: list[Photograph] = field(default_factory=list)


@dataclass
class Source:
    """A data set before it is stored. classes: none for an unconditional set, whose labels are all 0."""

    train: Split
    test: Split
    channels: int
    classes: list[str]
    origin: str
    licence: str
    skipped: dict[str, str] = field(default_factory=dict)  # file -> why it was left out


def split_photographs(
    photographs: list[Photograph], labels: np.ndarray, size: int, threads: int, captions: list[list[str]] | None = None
) -> Split:
    """A split of photographs, cropped to `size`; so many threads decode, in the same order whatever their number."""
    pixels = ahead(lambda photograph: photograph.read(size), photographs, threads)
    return Split(pixels, labels, captions, photographs)


def enlarge(image: np.ndarray, size: int) -> np.ndarray:
    """A greyscale (H, W) uint8 image, resized bilinearly to (size, size, 1) uint8."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))[:, :, None]


def pad(image: np.ndarray, size: int) -> np.ndarray:
    """A greyscale (H, W) uint8 image, centred on black (size, size, 1) uint8."""
    top, left = (size - image.shape[0]) // 2, (size - image.shape[1]) // 2
    padded = np.zeros((size, size, 1), np.uint8)
    padded[top : top + image.shape[0], left : left + image.shape[1], 0] = image
    return padded


@dataclass(frozen=True)
class Photograph:
    """An image file, or `size` bytes from `start` on of an archive. name: for messages, and what it is sorted by.

    sha256: of its bytes, if they are known.
    """

    name: str
    file: Path
    start: int = 0
    size: int = -1
    sha256: str | None = None

    def read(self, size: int) -> np.ndarray:
        """Cropped as ADM does: (size, size, 3) uint8. Raises RdmError if it cannot be read, or is another one."""
        with self._readable():
            content = self._content()
            if self.sha256 not in (None, hashlib.sha256(content).hexdigest()):
                raise RdmError(f"{self.name} is another image than when `rdm data` saw it; get that back{AGAIN}.")
            with Image.open(io.BytesIO(content)) as image:
                return centre_crop(image, size)

    def digest(self) -> str:
        """sha256 of its bytes. Raises RdmError if they are no whole image."""
        with self._readable():
            content = self._content()
            with Image.open(io.BytesIO(content)) as image:
                image.draft("RGB", (1, 1))  # of a JPEG, all is read and little of it computed
                image.load()
        return hashlib.sha256(content).hexdigest()

    def _content(self) -> bytes:
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            return stream.read(self.size)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise RdmError(f"{self.name} is not there; get it back{AGAIN if self.sha256 else ''}.") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise RdmError(f"{self.name} cannot be read as an image ({error}); replace or remove it.") from None


def centre_crop(image: Image.Image, size: int) -> np.ndarray:
    """ADM's crop of a photograph to (size, size, 3) uint8 (guided-diffusion 22e0df8, also DiT's).

    Halve by box averaging while the short side is at least twice `size`, resize it to `size` bicubically, crop.
    """
    image = image.convert("RGB")
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image)[top : top + size, left : left + size]
