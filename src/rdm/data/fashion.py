"""Fashion-MNIST (Xiao et al., 2017) from a local copy, Debian's package, or a verified download."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pooch

from rdm.data.images import Source, Split, pad
from rdm.errors import RdmError
from rdm.params.schema import FashionData

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # the package dataset-fashion-mnist
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
ORIGIN, LICENCE = "Fashion-MNIST, Xiao, Rasul and Vollgraf (2017)", "MIT"
CLASSES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
# sha256 of the uncompressed content: Debian compresses the same four files anew
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def open_fashion(parameters: FashionData) -> Source:
    """Both splits in the order of the files, which mixes the classes.

    Raises RdmError if a file is missing where the parameters say it is, is damaged, or cannot be downloaded.
    """
    return Source(
        train=_split("train", parameters),
        test=_split("t10k", parameters),
        channels=1,
        classes=CLASSES,
        origin=ORIGIN,
        licence=LICENCE,
    )


def _split(name: str, parameters: FashionData) -> Split:
    images = _idx(f"{name}-images-idx3-ubyte", parameters.folder)
    labels = _idx(f"{name}-labels-idx1-ubyte", parameters.folder)
    return Split((pad(image, parameters.image_size) for image in images), labels.astype(np.int64))


def _idx(name: str, folder: str | None) -> np.ndarray:
    """One idx file: two zero bytes, the type (8: uint8), the rank, the big-endian sizes, the values."""
    path = _locate(name, folder)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise RdmError(f"{path} cannot be read ({error}); remove it and get it anew.") from None
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise RdmError(f"{path} is not Fashion-MNIST's {name} (its sha256 differs); remove it and get it anew.")
    rank = content[3]
    sizes = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(sizes)


def _locate(name: str, folder: str | None) -> Path:
    for place in [Path(folder)] if folder else [DEBIAN]:
        for path in (place / f"{name}.gz", place / name):
            if path.is_file():
                return path
    if folder:
        raise RdmError(f"{folder} does not hold {name}.gz; put it there, or leave out `folder` to download it.")
    try:
        return Path(pooch.retrieve(f"{URL}{name}.gz", known_hash=None, progressbar=True))
    except Exception as error:  # pooch lets through whatever the network stack raises
        raise RdmError(
            f"Downloading {name}.gz failed ({error}); install Debian's dataset-fashion-mnist, "
            f"or put the four files in a folder and name it in `folder`."
        ) from None
