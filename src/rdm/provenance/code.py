"""A digest of the code that a stage runs, so that an edit to it re-runs the stage and a comment does not.

The versions of the libraries that compute belong to it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = ("diffusers", "numpy", "torch", "torch-fidelity")
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
    pending, seen = [ENTRY[verb]], set[str]()
    while pending:
        module = pending.pop()
        if module not in seen:
            seen.add(module)
            pending += _imports(module)
    versions = [f"{library}=={importlib.metadata.version(library)}" for library in LIBRARIES]
    content = "\n".join(f"{module}\n{_bare_code(module)}" for module in sorted(seen))
    content += "\n".join(versions)
    return hashlib.sha256(content.encode()).hexdigest()


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text(encoding="utf-8"))


def _path(module: str) -> Path:
    base = PACKAGE.joinpath(*module.split(".")[1:])
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    """The `rdm` modules that `module` imports, wherever in it the import stands."""
    names: list[str] = []
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.split(".")[0] == "rdm" and _path(name).is_file())


@functools.cache
def _bare_code(module: str) -> str:
    """The module's syntax tree without docstrings: comments and layout are gone already."""
    tree = _tree(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return ast.dump(tree)
