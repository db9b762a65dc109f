"""Pickles of numbers, read without running anything that they name.

A pickle is a program: it names functions and calls them. Here the few names that arrays of numbers need are answered
by stand-ins of our own, and every other name is refused before it is imported. numpy's own functions are not handed
out either: arrays of objects, and dtypes with a forged state, can make them follow addresses that the file chose.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import IO, Any

import numpy as np

from rdm.errors import UsageError

_NUMBER = re.compile(r"[biufc]\d{1,2}")  # the names that numpy pickles bool, integer, float and complex dtypes by


class Unpickler(pickle.Unpickler):
    """Reads arrays of numbers, numpy scalars, plain containers, numbers, strings, bytes and None.

    stream: the pickle, of protocol 0 to 5. path: the file that error messages name.
    `load` raises UsageError for anything else; for a damaged pickle, whatever pickle raises.
    dnnlib's EasyDict, of StyleGAN and EDM, becomes a dict.
    """

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        super().__init__(stream)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for `module.name`. Raises UsageError if there is none; nothing is imported."""
        match module.replace("numpy.core", "numpy._core"), name:  # numpy 2 moved what numpy 1 wrote
            case "numpy._core.multiarray", "_reconstruct":
                return self._reconstruct
            case "numpy._core.multiarray", "scalar":
                return self._scalar
            case "numpy._core.numeric", "_frombuffer":
                return self._frombuffer
            case "numpy", "ndarray":
                return "ndarray"  # only ever an argument of _reconstruct
            case "numpy", "dtype":
                return self._dtype
            case "_codecs", "encode":
                return self._encode
            case (("dnnlib" | "dnnlib.util"), "EasyDict"):
                return dict
        raise UsageError(
            f"{self._path} wants to run code ({module}.{name}), which statistics have no need of; nothing of it was "
            "run; ask its maker for an npz of mu and sigma."
        )

    # Bound methods, because a pickle may set attributes on what it was given: these have none that matter.

    def _dtype(self, code: str, *_options: bool) -> _Dtype:
        if not _NUMBER.fullmatch(code):
            raise UsageError(
                f"{self._path} holds an array of dtype {code!r}, where statistics are numbers; nothing of it was run; "
                "ask its maker for an npz of mu and sigma."
            )
        return _Dtype(code)

    def _reconstruct(self, *_placeholders: object) -> _Array:
        return _Array(0)

    def _scalar(self, dtype: _Dtype, data: bytes) -> Any:
        return np.frombuffer(data, dtype.value, count=1)[0]

    def _frombuffer(
        self, data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: Any, axes: tuple[int, ...] | None = None
    ) -> np.ndarray:
        flat = np.frombuffer(data, dtype.value)
        return flat.reshape(shape, order=order) if axes is None else flat.reshape(shape).transpose(axes)

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":  # how protocols 0 to 2 write bytes
            raise pickle.UnpicklingError(f"bytes are encoded as {encoding!r}")
        return text.encode("latin1")


class _Dtype:
    """Stands for a dtype of numbers; of the state that pickles give it, only the byte order matters."""

    def __init__(self, code: str) -> None:
        self.value: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.value = self.value.newbyteorder(state[1])


class _Array(np.ndarray[Any, Any]):
    """An array of numbers that takes its content from a pickle."""

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("an array's content is not bytes of numbers")
        super().__setstate__((version, shape, dtype.value, fortran, data))
