"""The published weights that extractors need: found by path, or downloaded, and verified either way."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pooch

from rdm.errors import RdmError, UsageError
from rdm.models.registry import WEIGHTS
from rdm.provenance.files import file_digest, whole_file

CACHE = Path(os.environ.get("RDM_CACHE") or pooch.os_cache("rdm"))
URLS = {kind: WEIGHTS[kind].url for kind in ("inception", "i3d")}


def find_weights(kind: str, expected: str | None, path: Path | None) -> tuple[Path, str]:
    """The file of an extractor's weights, and its sha256.

    expected: `sha256:` and the start of the digest, or `git:` and the blob id; None takes any file.
    path: None looks into the cache, and downloads what is not there.
    Raises UsageError for a missing file or another digest, RdmError if the download fails.
    """
    if path is None and kind not in URLS:
        raise UsageError(
            "This protocol's classifier is no published file; name one with --weights: results/extractor/DATA/SCORE."
        )
    file = _download(kind, expected) if path is None else path
    file = file / "model.safetensors" if file.is_dir() else file
    if not file.is_file():
        where = f"download {URLS[kind]}" if kind in URLS else "run `rdm extractor`"
        raise UsageError(f"{file} is not there; {where} and name its path with --weights.")
    elsewhere = f"download {URLS[kind]} and name its path with --weights" if kind in URLS else "name another"
    _check(file, kind, expected, elsewhere if path else "remove it, and it is downloaded again")
    return file, file_digest(file)


def _check(file: Path, kind: str, expected: str | None, remedy: str) -> None:
    if expected is not None and not _matches(file, expected):
        raise UsageError(f"{file} is not the {kind} file that the protocol names ({expected}); {remedy}.")


def _matches(file: Path, expected: str) -> bool:
    scheme, _, value = expected.partition(":")
    if scheme == "sha256":
        return file_digest(file).startswith(value)
    blob = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            blob.update(chunk)
    return blob.hexdigest().startswith(value)


def _download(kind: str, expected: str | None) -> Path:
    """The cached file, fetched if need be; a download of another digest does not stay."""
    target = CACHE / URLS[kind].rsplit("/", 1)[1].partition("?")[0]
    if target.is_file():
        return target
    with whole_file(target) as temporary:
        try:
            pooch.retrieve(URLS[kind], known_hash=None, fname=temporary.name, path=target.parent, progressbar=True)
        except Exception as error:  # pooch lets through whatever the network stack raises
            raise RdmError(
                f"Downloading {URLS[kind]} failed ({error}); get it elsewhere and name its path with --weights."
            ) from None
        _check(temporary, kind, expected, "get it elsewhere and name its path with --weights")
    return target
