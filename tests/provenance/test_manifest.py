"""Artefacts are whole or absent, verified when read, and never silently replaced."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from rdm import params, paths
from rdm.errors import ArtefactError
from rdm.provenance import code, graph, pull
from rdm.provenance.files import whole_file, whole_folder
from rdm.provenance.manifest import Input, Recipe, build, is_current, read
from tests.conftest import CI

REMEDY = "rdm data x"


@pytest.fixture
def recipe():
    return Recipe("data", {"size": [1, 2]}, {"start": Input(Path("start"), "abc")})


@pytest.fixture
def artefact(tmp_path, recipe):
    folder = tmp_path / "a" / "b"
    with build(folder, recipe) as (scratch, facts):
        (scratch / "x.txt").write_text("content")
        facts["count"] = 1
    return folder


def test_round_trip(artefact, recipe):
    found = read(artefact, REMEDY, {"size": (1, 2)})
    assert found.facts == {"count": 1}
    assert is_current(artefact, recipe, REMEDY, overwrite=False)
    assert is_current(artefact, recipe, REMEDY, overwrite=True)  # to make it again would change nothing


def test_damage_is_found(artefact):
    (artefact / "x.txt").write_text("c0ntent")
    with pytest.raises(ArtefactError, match=r"x.txt is damaged.*rdm data x"):
        read(artefact, REMEDY)
    (artefact / "x.txt").unlink()
    with pytest.raises(ArtefactError, match=r"x.txt is missing"):
        read(artefact, REMEDY)
    (artefact / "manifest.json").write_text("{}")
    with pytest.raises(ArtefactError, match=r"manifest.json is damaged"):
        read(artefact, REMEDY)
    (artefact / "manifest.json").unlink()
    with pytest.raises(ArtefactError, match=r"not there yet; run `rdm data x`"):
        read(artefact, REMEDY)


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": {}},
        {"recipe": {"parameters": {}, "inputs": []}},
        {"recipe": []},
        {"files": []},
        {"facts": None},
    ],
)
def test_a_damaged_manifest_is_named(artefact, recipe, change):
    manifest = artefact / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    with pytest.raises(ArtefactError, match=r"manifest.json is damaged; remove .* and run `rdm data x` again"):
        is_current(artefact, recipe, REMEDY, overwrite=False)
    assert not is_current(artefact, recipe, REMEDY, overwrite=True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"recipe": {}}', '{"recipe": []}'])
def test_what_was_pulled_damaged_has_to_run_again(tmp_path, text):
    (tmp_path / "score.json").write_text(text)
    assert not pull._follows_recipe(graph.Job("score", ("x",), (), {tmp_path / "score.json": {}}))


def test_other_parameters_are_named(artefact):
    with pytest.raises(ArtefactError, match=r"other parameters \(size: \[1, 2\] there, \[3\] now\).*--overwrite"):
        read(artefact, REMEDY, {"size": [3]})
    with pytest.raises(ArtefactError, match="other parameters"):
        is_current(artefact, Recipe("data", {"size": [3]}), REMEDY, overwrite=False)
    with pytest.raises(ArtefactError, match="other input files"):
        is_current(
            artefact,
            Recipe("data", {"size": [1, 2]}, {"start": Input(Path("start"), "other")}),
            REMEDY,
            overwrite=False,
        )
    for other in (
        Recipe("data", {"size": [3]}),
        Recipe("data", {"size": [1, 2]}, {"start": Input(Path("start"), "other")}),
    ):
        assert not is_current(artefact, other, REMEDY, overwrite=True)


def test_damage_is_overwritten_where_that_is_asked_for(artefact, recipe):
    (artefact / "x.txt").write_text("c0ntent")
    with pytest.raises(ArtefactError, match="x.txt is damaged"):
        is_current(artefact, recipe, REMEDY, overwrite=False)
    assert not is_current(artefact, recipe, REMEDY, overwrite=True)


def test_the_digest_is_of_content_alone(tmp_path, artefact, recipe):
    second = tmp_path / "second"
    with build(second, recipe) as (scratch, _):
        (scratch / "x.txt").write_text("content")
    assert read(second, REMEDY).digest == read(artefact, REMEDY).digest


def test_failure_leaves_nothing(tmp_path, artefact, recipe):
    before = json.loads((artefact / "manifest.json").read_text())

    def fail(writer):
        with writer as scratch:
            (scratch[0] if isinstance(scratch, tuple) else scratch / "y").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail(whole_folder(tmp_path / "new"))
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "new.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert json.loads((artefact / "manifest.json").read_text()) == before


def test_a_full_disk_is_an_os_error(tmp_path):
    """safetensors has an exception of its own; the command line knows how to say an OSError in one sentence."""
    for writer in (whole_file(tmp_path / "a"), whole_folder(tmp_path / "b")):
        with pytest.raises(OSError, match="No space left"), writer:
            raise SafetensorError("I/O error: No space left on device")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    here = platform.node()
    for name in (f".a.{here}.{dead.pid}.partial", f".a.{here}.old.{dead.pid}.partial"):
        (tmp_path / name).mkdir()
    (tmp_path / f".b.{here}.{dead.pid}.partial").write_text("half")
    living = tmp_path / f".a.{here}.{os.getppid()}.partial"
    elsewhere = [tmp_path / f".a.{host}.{dead.pid}.partial" for host in ("elsewhere", f"{here}.elsewhere")]
    for folder in (living, *elsewhere):  # another host that shares the disk has processes of its own
        folder.mkdir()
    with whole_folder(tmp_path / "a") as own, whole_file(tmp_path / "b") as temporary:
        assert own.name == f".a.{here}.{os.getpid()}.partial"
        temporary.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", living.name, *(path.name for path in elsewhere)}


@pytest.fixture
def a_module(tmp_path, monkeypatch):
    """Write the source of the module rdm.any, which imports others; returns its imports and digest."""
    path = code._path

    def write(source):
        (tmp_path / "any.py").write_text(source)
        monkeypatch.setattr(code, "_path", lambda module: tmp_path / "any.py" if module == "rdm.any" else path(module))
        code._module.cache_clear()
        return code._module("rdm.any")

    yield write
    code._module.cache_clear()


def test_code_digest_ignores_comments_and_docstrings(a_module):
    _, plain = a_module("def f(x):\n    return x + 1\n")
    assert a_module('"""Doc."""\n\ndef f(x):  # comment\n    """Doc."""\n    return (x + 1)\n')[1] == plain
    assert a_module("def f(x):\n    return x + 2\n")[1] != plain


def test_code_digest_is_that_of_another_python(a_module, monkeypatch):
    """Later ones know more fields, empty where the source does not use them."""
    _, plain = a_module("def f(x):\n    return x + 1\n")
    monkeypatch.setattr(code.ast.FunctionDef, "_fields", (*code.ast.FunctionDef._fields, "type_params"))
    monkeypatch.setattr(code.ast.FunctionDef, "type_params", [], raising=False)
    assert code._bare_code(code.ast.parse("def f(x):\n    return x + 2\n")).count("type_params") == 0
    assert a_module("def f(x):\n    return x +  1\n")[1] == plain


def test_code_digest_follows_imports(a_module, monkeypatch):
    """Also where it is looked up, without being worked out again; and where nothing can be written."""
    source = "from rdm.models.gates import Gating\nimport torch\n\ndef f():\n    import rdm.paths\n"
    first = a_module(source)
    assert first[0] == ["rdm.models.gates", "rdm.paths"]
    parse = code.ast.parse
    monkeypatch.setattr(code.ast, "parse", lambda _: pytest.fail("it was parsed again"))
    assert a_module(source) == first
    monkeypatch.setattr(code.ast, "parse", parse)
    assert a_module(source.replace("rdm.paths", "rdm.parts"))[0] == ["rdm.models.gates", "rdm.parts"]
    monkeypatch.setattr(code, "whole_file", lambda _: (_ for _ in ()).throw(OSError("read-only")))
    assert a_module(source) == first


def test_code_digest_sees_a_module_become_a_package(tmp_path, monkeypatch):
    """And back again, as other commits have it, while the source that imports it stays what it is."""
    monkeypatch.setattr(code, "PACKAGE", tmp_path)
    (tmp_path / "any.py").write_text("from rdm.x import y\n")

    def imports():
        code._module.cache_clear()
        return code._module("rdm.any")[0]

    (tmp_path / "x.py").touch()
    assert imports() == ["rdm.x"]
    (tmp_path / "x.py").unlink()
    (tmp_path / "x").mkdir()
    for name in ("__init__.py", "y.py"):
        (tmp_path / "x" / name).touch()
    assert imports() == ["rdm.x", "rdm.x.y"]
    shutil.rmtree(tmp_path / "x")
    (tmp_path / "x.py").touch()
    assert imports() == ["rdm.x"]
    code._module.cache_clear()


def test_code_digest_is_worked_out_where_the_kept_one_cannot_be_read(a_module, tmp_path, monkeypatch):
    """It is damaged, or for another user alone."""
    source = "import rdm.paths\n"
    first = a_module(source)
    [kept] = tmp_path.glob("__pycache__/*.digest")
    kept.write_bytes(b"\xff")
    assert a_module(source) == first
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(PermissionError("umask 077")))
    assert a_module(source) == first


def test_what_shows_scores_is_made_after_their_floor():
    """It holds them against the floor's classifier and items, which may be made anew together with them."""
    experiment = params.load(CI)
    for dataset, protocol, shown in (
        ("tiny", "ci", {"table1", "figure6", "figure7", "rates", "claims"}),
        ("sky", "ci_clips", {"table2", "claims"}),
        ("ucf", "ci_clips", {"table2", "claims"}),
    ):
        floor = paths.floor(dataset, protocol)
        found = {name for name in graph.targets(experiment) if floor in graph.target(experiment, name).reads}
        assert found == shown, floor


def test_what_shows_scores_reads_all_that_they_must_be_of():
    """A pod holds what its job reads, and nothing else: no score is shown without its samples and their weights."""
    experiment = params.load(CI)
    for name in graph.targets(experiment):
        reads = {str(path) for path in graph.target(experiment, name).reads}
        for path in [path for path in reads if path.startswith("results/score/ci-")]:
            run, sampler = path.split("/")[2:4]
            assert {f"results/sample/{run}/{sampler}", f"results/train/{run}"} <= reads, (name, path)


def test_every_verb_has_a_digest_of_its_own():
    digests = {verb: code.code_digest(verb) for verb in code.ENTRY}
    assert len(set(digests.values())) == len(digests)


def test_every_library_that_computes_is_in_the_digest():
    """All that the stages between data and tables import, but for what reads data, carries bytes or shows progress."""
    carry = {"accelerate", "pooch", "pydantic", "requests", "safetensors", "scikit-learn", "tabulate"}
    carry |= {"threadpoolctl", "tqdm", "pyyaml"}
    distribution = {"PIL": "pillow", "sklearn": "scikit-learn", "torch_fidelity": "torch-fidelity", "yaml": "pyyaml"}
    pending, seen = (
        [code.ENTRY[verb] for verb in ("autoencoder", "extractor", "latents", "train", "sample", "score")],
        {""},
    )
    while pending:
        module = pending.pop()
        seen.add(module)
        if module.split(".")[0] == "rdm" and code._path(module).is_file():
            pending += set(code._imports(code.ast.parse(code._path(module).read_bytes()))) - seen
    names = {module.split(".")[0] for module in seen} - sys.stdlib_module_names - {"", "rdm"}
    assert {distribution.get(name, name) for name in names} - carry == set(code.LIBRARIES)
