"""A digest of the code that a stage runs, so that an edit to it re-runs the stage and a comment does not.

The versions of the libraries that compute networks, samples and scores belong to it. Data that another library made
otherwise is other data, by its own sha256.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Iterator
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from rdm.provenance.files import whole_file

PACKAGE = Path(__file__).resolve().parents[1]
FORMAT = b"3"  # of what is cached: another number when it is other text of the same source
LIBRARIES = ("av", "diffusers", "numpy", "pillow", "scipy", "tokenizers", "torch", "torch-fidelity", "transformers")
# the modules behind each verb; what they import from this package is followed
ENTRY = {
    "data": "rdm.data.stage",
    "autoencoder": "rdm.latents.training",
    "extractor": "rdm.score.classifier",
    "latents": "rdm.latents.stage",
    "train": "rdm.train.stage",
    "sample": "rdm.sample.stage",
    "score": "rdm.score.stage",
    "tables": "rdm.tables.stage",
    "figures": "rdm.tables.profiles",
}


@functools.cache
def code_digest(verb: str) -> str:
    """sha256 over the stage's modules and all they import from `rdm`, without comments and docstrings."""
    pending, seen = [ENTRY[verb]], dict[str, str]()
    while pending:
        module = pending.pop()
        if module not in seen:
            imports, seen[module] = _module(module)
            pending += imports
    versions = [f"{library}=={importlib.metadata.version(library)}" for library in LIBRARIES]
    return hashlib.sha256("\n".join([*(f"{m} {d}" for m, d in sorted(seen.items())), *versions]).encode()).hexdigest()


@functools.cache
def _module(module: str) -> tuple[list[str], str]:
    """The `rdm` modules that a module imports, and a digest of its code.

    Kept beside Python's own cache of the module, since parsing everything takes a second, and each job does it. Which
    of the imported names are modules is asked anew: files come and go, and the importing source stays.
    """
    path = _path(module)
    source = path.read_bytes()
    key, cached = hashlib.sha256(FORMAT + source).hexdigest(), Path(cache_from_source(str(path))).with_suffix(".digest")
    try:
        found = cached.read_text(encoding="ascii").split("\n")
    except (OSError, UnicodeDecodeError):  # not there, for its owner alone, or damaged
        found = []
    if not found or found[0] != key:
        tree = ast.parse(source)
        imports = [name for name in _imports(tree) if name.split(".")[0] == "rdm"]
        found = [key, hashlib.sha256(_bare_code(tree).encode()).hexdigest(), *imports]
        with contextlib.suppress(OSError), whole_file(cached) as temporary:  # an installation may be read-only
            temporary.write_text("\n".join(found), encoding="ascii")
    return [name for name in found[2:] if _path(name).is_file()], found[1]


def _path(module: str) -> Path:
    base = PACKAGE.joinpath(*module.split(".")[1:])
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _imports(tree: ast.Module) -> Iterator[str]:
    """What is imported, wherever in the module the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _bare_code(tree: ast.Module) -> str:
    """The syntax tree without docstrings: comments and layout are gone already."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return json.dumps(_plain(tree))


def _plain(node: Any) -> Any:
    """A node as nested lists, without fields that are empty: each Python adds some, and ast.dump shows them or not."""
    if isinstance(node, ast.AST):
        fields = [[name, _plain(value)] for name, value in ast.iter_fields(node) if value not in (None, [])]
        return [type(node).__name__, *fields]
    return [_plain(item) for item in node] if isinstance(node, list) else repr(node)
