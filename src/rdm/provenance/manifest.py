"""The sidecar of every artefact: which verb made it, from which parameters, inputs and code.

An artefact is a folder with a `manifest.json`. A later stage opens it with `read`, which recomputes the hash of every
file and compares its parameters with the present ones; `check_input` compares the inputs it was made from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rdm import paths
from rdm.errors import ArtefactError, MissingError
from rdm.provenance.code import code_digest
from rdm.provenance.environment import environment
from rdm.provenance.files import digest, file_digest, whole_folder, write_json


@dataclass(frozen=True)
class Input:
    """What an artefact is made from: a folder or a file, and the digest of its content."""

    path: Path
    digest: str

    @classmethod
    def of_file(cls, path: Path) -> Input:
        """A file, as it is now."""
        return cls(path, file_digest(path))


@dataclass(frozen=True)
class Recipe:
    """What determines an artefact's content.

    verb: the `rdm` verb that makes it.
    parameters: the values it depends on, JSON-like.
    inputs: what it reads, by name. Their digests belong to the recipe, their places do not.
    """

    verb: str
    parameters: dict[str, Any]
    inputs: dict[str, Input] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The recipe with the digest of the stage's code, as it stands in the manifest."""
        inputs = {name: source.digest for name, source in self.inputs.items()}
        content = {"verb": self.verb, "parameters": self.parameters, "inputs": inputs, "code": code_digest(self.verb)}
        # a round trip through JSON, so that it equals what is read back (tuples become lists)
        read_back: dict[str, Any] = json.loads(json.dumps(content))
        return read_back

    @property
    def sources(self) -> dict[str, str]:
        """Where the inputs lie, by name: beside the recipe, so that an artefact can be followed back."""
        return {name: str(source.path) for name, source in self.inputs.items()}

    @property
    def digest(self) -> str:
        """sha256 over verb, parameters, inputs and code."""
        return digest(self.as_dict())


@dataclass(frozen=True)
class Artefact:
    """A finished folder: `digest` covers its files, `facts` holds what its stage recorded.

    seconds: what it took, of an interrupted job what it took since it was started again.
    """

    folder: Path
    recipe: dict[str, Any]
    digest: str
    facts: dict[str, Any]
    seconds: float

    @property
    def as_input(self) -> Input:
        """As what another artefact is made from."""
        return Input(self.folder, self.digest)


def read(
    folder: Path, remedy: str, parameters: dict[str, Any] | None = None, only: Collection[str] | None = None
) -> Artefact:
    """Open a finished artefact and verify it.

    remedy: the command that makes it, for the error message.
    parameters: what it must have been made with; None skips that check.
    only: the files that are needed, where the others are large; None: all.
    Raises MissingError if it is not there, ArtefactError if a file is missing or damaged, or its parameters are others.
    """
    path = folder / paths.MANIFEST
    if not path.is_file():
        raise MissingError(f"{folder} is not there yet; run `{remedy}` first.")
    try:
        files, artefact = _parse(folder, path.read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError):
        raise ArtefactError(f"{path} is damaged; remove {folder} and run `{remedy}` again.") from None
    for name, expected in files.items():
        if only is not None and name not in only:
            continue
        file = folder / name
        if not file.is_file():
            raise ArtefactError(f"{file} is missing; remove {folder} and run `{remedy}` again.")
        if file_digest(file) != expected:
            raise ArtefactError(f"{file} is damaged (its sha256 changed); remove {folder} and run `{remedy}` again.")
    if parameters is not None:
        wanted = json.loads(json.dumps(parameters))
        if artefact.recipe["parameters"] != wanted:
            difference = _first_difference(artefact.recipe["parameters"], wanted)
            raise ArtefactError(
                f"{folder} was made with other parameters ({difference}); run `{remedy} --overwrite` to replace it."
            )
    return artefact


def _parse(folder: Path, text: str) -> tuple[dict[str, str], Artefact]:
    """What a manifest says: the digests of the files, and the artefact. Raises what damaged text leads to."""
    manifest = json.loads(text)
    files, recipe, facts = manifest["files"], manifest["recipe"], manifest["facts"]
    for mapping in (files, facts, recipe["parameters"], recipe["inputs"]):
        if not isinstance(mapping, dict):
            raise TypeError
    return files, Artefact(folder, recipe, digest(files), facts, manifest["seconds"])


def check_input(artefact: Artefact, source: Artefact, name: str, remedy: str) -> None:
    """Refuse an artefact that was made from another version of its input `name` than the present `source`."""
    if artefact.recipe["inputs"].get(name) != source.digest:
        raise ArtefactError(
            f"{artefact.folder} was made from another version of {source.folder}; run `{remedy} --overwrite`."
        )


def is_current(folder: Path, recipe: Recipe, remedy: str, overwrite: bool) -> bool:
    """Whether `folder` already holds what `recipe` makes: to make it again would give the same bytes.

    Raises ArtefactError if what is there is damaged or of another recipe, unless `overwrite` is set.
    """
    if not (folder / paths.MANIFEST).is_file():
        return False
    try:
        found = read(folder, remedy, recipe.parameters)
        if found.recipe != recipe.as_dict():
            what = "input files" if found.recipe["inputs"] != recipe.as_dict()["inputs"] else "code"
            raise ArtefactError(f"{folder} was made from other {what}; run `{remedy} --overwrite` to replace it.")
    except ArtefactError:
        if overwrite:
            return False
        raise
    return True


@contextmanager
def build(folder: Path, recipe: Recipe) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Make an artefact: yields a scratch folder and a dict for facts; on success it becomes `folder`, with a manifest.

    The manifest's `files`, `recipe` and `facts` depend on content alone; `seconds` and `environment` vary between runs.
    """
    started = time.monotonic()
    facts: dict[str, Any] = {}
    with whole_folder(folder) as scratch:
        yield scratch, facts
        files = {str(f.relative_to(scratch)): file_digest(f) for f in sorted(scratch.rglob("*")) if f.is_file()}
        manifest = {
            "recipe": recipe.as_dict(),
            "sources": recipe.sources,
            "files": files,
            "facts": facts,
            "seconds": round(time.monotonic() - started, 1),
            "environment": environment(),
        }
        (scratch / paths.MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


@contextmanager
def noted(file: Path) -> Iterator[None]:
    """Make a result that is a file of its own, and repeats itself byte by byte: note beside it how it was made."""
    started = time.monotonic()
    yield
    made = {"seconds": round(time.monotonic() - started, 1), "environment": environment()}
    write_json(paths.note(file), {"sha256": file_digest(file), **made})


def _first_difference(there: Any, now: Any, key: str = "") -> str:
    """The first value in which two JSON trees differ, in words."""
    if isinstance(there, dict) and isinstance(now, dict):
        for name in [*there, *(n for n in now if n not in there)]:
            if there.get(name) != now.get(name):
                return _first_difference(there.get(name), now.get(name), f"{key}.{name}".lstrip("."))
    return f"{key}: {there!r} there, {now!r} now"
