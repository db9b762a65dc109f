"""Images in files of their own, in a folder or in a zip."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from threading import Lock

import numpy as np
from PIL import Image

from rdm.data.sources.base import Images, folder_labels, readable, require_size
from rdm.errors import UsageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
FORMATS = ("PNG", "JPEG", "WEBP")


class ImageFiles(Images):
    """The images `names` in the folder or zip `path`; `load` gives the bytes of one.

    If all are in subfolders, their labels are the numbers of the sorted outermost ones.
    """

    def __init__(self, path: Path, names: list[str], load: Callable[[str], bytes]) -> None:
        self.path, self.files = path, names if path.is_dir() else []
        self.labels = folder_labels(names)
        self._names, self._load = names, load
        height, width, channels = self._image(names[0]).shape
        self.shape = (len(names), height, width, channels)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.pick(range(start, stop))

    def pick(self, numbers: Sequence[int]) -> np.ndarray:
        """The images with these numbers, in this order: uint8 (len(numbers), H, W, C)."""
        pixels = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        for place, number in enumerate(numbers):
            image = self._image(self._names[number])
            require_size(self.path / self._names[number], image.shape, self.path / self._names[0], self.shape[1:])
            pixels[place] = image
        return pixels

    def _image(self, name: str) -> np.ndarray:
        """uint8 (H, W, C)."""
        where = self.path / name
        with readable(where, "an image"):
            content = self._load(name)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                # Pillow calls 16-bit RGB "RGB" too and drops the lower bits; byte 24 of a PNG is its bit depth
                bits = " with 16 bits" if image.format == "PNG" and content[24] == 16 else ""
                if bits or image.mode not in ("RGB", "L"):
                    what = f"{image.mode}{bits}"
                    raise UsageError(
                        f"{where} is an image of mode {what}; convert the set to RGB or to 8-bit grey (L)."
                    )
                return np.atleast_3d(np.asarray(image))


def open_folder(path: Path, names: list[str]) -> ImageFiles:
    """The images `names` in the folder `path`."""
    return ImageFiles(path, names, lambda name: (path / name).read_bytes())


def open_zip(path: Path) -> ImageFiles:
    """The images in the zip `path`, sorted by name; hidden ones are skipped."""
    with readable(path, "a whole zip"):
        archive = zipfile.ZipFile(path)
    lock = Lock()  # ZipFile counts its open members without one, and closes the file at zero

    def load(name: str) -> bytes:
        with lock:
            return archive.read(name)

    names = sorted(info.filename for info in archive.infolist() if _is_image(info))
    if not names:
        raise UsageError(f"{path} holds no images; {', '.join(SUFFIXES)} are known.")
    return ImageFiles(path, names, load)


def _is_image(info: zipfile.ZipInfo) -> bool:
    name = PurePosixPath(info.filename)
    return (
        not info.is_dir() and name.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in name.parts)
    )
