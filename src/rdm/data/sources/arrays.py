"""Images and videos in arrays: .npz (ADM's `arr_0`, with labels in `arr_1`), .npy, .safetensors, folders of npz shards.

What is not compressed stays in its file until it is read, so a set may be larger than memory.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from rdm.data.sources.base import Images, Videos, readable, require_size
from rdm.errors import UsageError

AXES = {4: ("images", "NHWC"), 5: ("videos", "NTHWC")}
CHUNK = 256  # items looked at together where all of an array must be


class ImageArrays(Images):
    """uint8 (N, H, W, C) in the file `path`, or in the shards `files` of the folder `path`."""

    def __init__(self, path: Path, files: list[str]) -> None:
        self.path, self.files = path, files
        self._parts, self.labels = _open(path, files, dimensions=4)
        _, height, width, channels = self._parts[0].shape
        self.shape = (sum(map(len, self._parts)), height, width, channels)

    def read(self, start: int, stop: int) -> np.ndarray:
        return _items(self._parts, start, stop)


class VideoArrays(Videos):
    """uint8 (N, T, H, W, C) in the file `path`, or in the shards `files` of the folder `path`."""

    def __init__(self, path: Path, files: list[str]) -> None:
        self.path, self.files = path, files
        self._parts, self.labels = _open(path, files, dimensions=5)
        self.count = sum(map(len, self._parts))
        _, length, height, width, channels = self._parts[0].shape
        self._length = int(length)
        self.frame_shape = (height, width, channels)

    def length(self, index: int) -> int:  # noqa: ARG002 - all have the same
        return self._length

    def read(self, index: int, frames: Sequence[int]) -> np.ndarray:
        return _items(self._parts, index, index + 1)[0, list(frames)]


def _items(parts: list[np.ndarray], start: int, stop: int) -> np.ndarray:
    """Items start to stop of the concatenated `parts`, which are copied only if they are of several parts."""
    pieces = []
    for part in parts:
        if start < len(part) and stop > 0:
            pieces.append(part[max(start, 0) : stop])
        start, stop = start - len(part), stop - len(part)
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _are_labels(numbers: np.ndarray) -> bool:
    one_each = numbers.ndim == 1 or (numbers.ndim == 2 and numbers.shape[1] == 1)
    return one_each and numbers.dtype.kind in "iuf" and bool(np.all(numbers == np.floor(numbers)))


def _open(path: Path, files: list[str], dimensions: int) -> tuple[list[np.ndarray], np.ndarray | None]:
    """The pixels of each file, checked, and the labels of all files together.

    arr_1 is taken for labels if it holds a whole number for each item, (N,) or (N, 1), of whatever type.
    """
    paths = [path / name for name in files] or [path]
    parts: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for file in paths:
        with readable(file, f"a whole {file.suffix}"):
            pixels, numbers = READERS[file.suffix.lower()](file)
        if fault := _layout_fault(pixels.shape, dimensions) or _dtype_fault(pixels):
            raise UsageError(f"{file}: the array {fault}")
        require_size(file, pixels.shape[1:], paths[0], (*parts, pixels)[0].shape[1:])
        parts.append(pixels)
        if numbers is not None and _are_labels(numbers):
            if len(numbers) != len(pixels):
                raise UsageError(f"{file} holds {len(pixels)} items but {len(numbers)} labels; give each item one.")
            labels.append(numbers.reshape(-1).astype(np.int64))
    if labels and len(labels) != len(parts):
        raise UsageError(
            f"{path}: only {len(labels)} of its {len(parts)} shards hold labels; give them to all or none."
        )
    return parts, np.concatenate(labels) if labels else None


def _layout_fault(shape: tuple[int, ...], dimensions: int) -> str | None:
    """What is wrong with the `shape` of an array of pixels, and what to do about it."""
    noun, axes = AXES[dimensions]
    if len(shape) != dimensions and len(shape) in AXES:
        other = AXES[len(shape)][0]
        return f"has shape {shape}, which is that of {other}; score it by a protocol for {other}, not {noun}."
    if len(shape) == dimensions - 1:
        return f"has shape {shape}: the channel axis is missing; add it as the last one, as in array[..., None]."
    if len(shape) != dimensions:
        return f"has shape {shape}; {noun} have the axes {axes}."
    if 0 in shape:
        return f"is empty, of shape {shape}; check what wrote it."
    if shape[-1] == 4:
        return f"has an alpha channel, of shape {shape}; drop it, as in array[..., :3]."
    if shape[-1] not in (1, 3):
        known = "; transpose it" if {1, 3} & set(shape[1:-2]) else ", with 1 or 3 channels; convert it"
        return f"has shape {shape}, whose last axis is not that of the channels{known} to {axes}."
    return None


def _dtype_fault(pixels: np.ndarray) -> str | None:
    """What is wrong with the type of an array of pixels, and what to do about it."""
    if pixels.dtype == np.uint8:
        return None
    if pixels.dtype.kind not in "biuf":
        return f"is of {pixels.dtype}; save it as uint8."
    chunks = (pixels[start : start + CHUNK] for start in range(0, len(pixels), CHUNK))
    # fmin and fmax pass over NaN
    ranges = [(np.fmin.reduce(c, axis=None), np.fmax.reduce(c, axis=None), np.isnan(c).any()) for c in chunks]
    lows, highs, nans = zip(*ranges, strict=True)
    nan = ", NaN among them" if any(nans) else ""
    return (
        f"is of {pixels.dtype} ({np.fmin.reduce(lows):g}..{np.fmax.reduce(highs):g}{nan}), not uint8; "
        "scale it to 0..255 and save array.round().clip(0, 255).astype('uint8')."
    )


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    with zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if "arr_0" not in members:
            raise UsageError(f"{path} holds no arr_0 but {', '.join(members) or 'nothing'}; save the pixels as arr_0.")
        pixels = _read_member(path, archive, members["arr_0"])
        return pixels, _read_member(path, archive, members["arr_1"]) if "arr_1" in members else None


def _read_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        dtype, shape, order = _read_header(path, stream)
        if member.compress_type != zipfile.ZIP_STORED:
            return np.frombuffer(stream.read(), dtype).reshape(shape, order=order)
        header = stream.tell()
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)  # the local lengths: those in the zip's directory may differ
        name, extra = struct.unpack("<HH", file.read(4))
    return np.memmap(path, dtype, "r", member.header_offset + 30 + name + extra + header, shape, order)


def _read_npy(path: Path) -> tuple[np.ndarray, None]:
    with path.open("rb") as stream:
        dtype, shape, order = _read_header(path, stream)
        return np.memmap(path, dtype, "r", stream.tell(), shape, order), None


def _read_header(path: Path, stream: Any) -> tuple[np.dtype[Any], tuple[int, ...], Any]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise UsageError(f"{path} holds Python objects (a pickle), which are never loaded; save the pixels as uint8.")
    return dtype, shape, "F" if fortran else "C"


def _read_safetensors(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    content = safe_open(path, framework="np")
    shapes = {name: content.get_slice(name).get_shape() for name in content.keys()}  # noqa: SIM118 - it is no mapping
    fitting = [name for name, shape in shapes.items() if len(shape) in AXES]
    name = "arr_0" if "arr_0" in shapes else fitting[0] if len(fitting) == 1 else None
    if name is None:
        held = ", ".join(shapes) or "nothing"
        raise UsageError(f"{path} holds {held}; save the pixels as arr_0 (and labels, if there are any, as arr_1).")
    labels = content.get_tensor("arr_1") if "arr_1" in shapes else None
    if content.get_slice(name).get_dtype() != "U8":
        return content.get_tensor(name), labels  # to be looked at and refused
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start = file.tell() + header[name]["data_offsets"][0]
    return np.memmap(path, np.uint8, "r", start, tuple(shapes[name])), labels


READERS = {".npz": _read_npz, ".npy": _read_npy, ".safetensors": _read_safetensors}
