"""The floors of the house: each module imports only from floors below its own."""

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SOURCE = ROOT / "src" / "rdm"
FLOORS = [
    {"ahead", "errors", "progress", "randomness", "paths"},
    {"params", "devices", "parts", "checkpoints", "layout"},
    {"provenance", "diffusion", "runtime", "performance", "launch", "distributed"},
    {"downloads", "containers"},
    {"data"},
    {"models", "latents"},
    {"train"},
    {"sample"},
    {"score"},
    {"tables", "plan"},
    {"cli"},
]
ONLY_IN = {
    "click": {"cli"},
    "docker": {"containers"},
    "torch_fidelity": {"score"},
    "pandas": {"tables"},
    "sklearn": {"data"},
    "av": {"data"},
    "transformers": {"models"},
    "tokenizers": {"models"},
}
MODULES = sorted(SOURCE.rglob("*.py"))


def package(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down(path):
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    mine = package(path)
    for name in imported(path):
        first, *rest = name.split(".")
        if first == "rdm" and rest and mine not in ("__init__", "__main__"):
            assert rest[0] == mine or floor[rest[0]] < floor[mine], f"{mine} must not import {name}"
        assert mine in ONLY_IN.get(first, {mine}), f"{first} belongs to {ONLY_IN[first]}, not to {mine}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_modules_stay_short(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize(
    "module", ["rdm.cli", "rdm.params.dependencies", "rdm.provenance.manifest", "rdm.tables.stage"]
)
def test_planning_and_tables_need_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
