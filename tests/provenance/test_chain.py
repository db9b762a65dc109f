"""A number is followed back to its data set, and a chain that is broken is named."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rdm import paths
from rdm.params import load
from rdm.provenance import environment
from rdm.provenance.chain import Tree
from rdm.provenance.manifest import read
from rdm.tables.origins import columns_of
from tests.conftest import ROOT
from tests.provenance.by_hand import make, make_chain
from tests.test_cli import fails, rdm

RUN = "ci-dit-s0"
SCORED = paths.score(RUN, "plain", "ci")
EXAMPLE = ROOT / "results" / "example"


@pytest.fixture
def chain(tmp_path, monkeypatch, experiment):
    """A working folder that holds one chain."""
    monkeypatch.chdir(tmp_path)
    make_chain(experiment)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_score_reaches_its_data_set(chain, experiment):
    """Each step once, after what it is the input of; the data set by the digest that its manifest gives."""
    tree, output = Tree.around(experiment, SCORED)
    steps = tree.walk([output])
    verbs = [step.recipe["verb"] for step in steps]
    assert sorted(verbs) == ["autoencoder", "data", "extractor", "latents", "sample", "score", "train"]
    assert verbs[0] == "score"
    data = steps[verbs.index("data")]
    assert data.sha256 == read(paths.data("tiny"), "").digest
    assert data.facts["licence"] == "CC BY 4.0"
    by_output = {step.output: number for number, step in enumerate(steps)}
    assert all(link.path in by_output for step in steps for link in step.inputs.values())
    assert steps[verbs.index("train")].inputs["latents"].path == paths.latents("tiny", "f4")


def test_what_is_printed(chain):
    done = rdm("explain", str(SCORED))
    assert done.exit_code == 0, done.output
    assert read(paths.data("tiny"), "").digest in done.stdout
    for text in ("rdm train ci-dit-s0 --overwrite", "origin digits", "fid 1.25", "commit", "lock", "seconds", "torch"):
        assert text in done.stdout, text
    assert "ends" not in done.stdout
    found = json.loads(rdm("explain", str(SCORED), "--json").stdout)
    assert found["steps"][0]["environment"]["lock"] == environment.environment()["lock"]
    assert found["steps"][0]["environment"]["versions"]["torch"] != "2"  # what was noted, where there is a note
    assert found["ends"] == []


@pytest.mark.parametrize(
    "result",
    [paths.data("tiny"), paths.train(RUN), paths.sample(RUN, "plain"), paths.sample(RUN, "plain") / "manifest.json"],
)
def test_any_result_can_be_explained(chain, result):
    for path in (result, Path.cwd() / result):
        done = rdm("explain", str(path))
        assert done.exit_code == 0, done.output
        assert "licence CC BY 4.0" in done.stdout


def test_another_version_of_an_input_is_named(chain, experiment):
    """The run was trained anew, and its samples are those of the first one."""
    latents = read(paths.latents("tiny", "f4"), "")
    make(paths.train(RUN), "train", {"other": 1}, "other weights", latents=latents)
    sample = paths.sample(RUN, "plain")
    words = (f"{sample} was made from another version of {paths.train(RUN)}", "run `rdm sample ci-dit-s0 --overwrite`")
    fails(rdm("explain", str(SCORED)), 1, *words)
    assert rdm("explain", str(paths.train(RUN))).exit_code == 0


def test_damage_is_named(chain):
    (paths.train(RUN) / "model.safetensors").write_text("c0ntent")
    fails(rdm("explain", str(SCORED)), 1, "model.safetensors is damaged", "rdm train ci-dit-s0")
    (paths.train(RUN) / "model.safetensors").write_text("content")
    edit(SCORED, lambda content: content["values"]["fid"].update(value=1.0))
    fails(rdm("explain", str(SCORED)), 1, f"{SCORED} is not what `rdm score ci-dit-s0` wrote here last")
    SCORED.write_text("{")
    paths.note(SCORED).unlink()
    fails(rdm("explain", str(SCORED)), 1, f"{SCORED} is damaged")
    SCORED.unlink()
    fails(rdm("explain", str(SCORED)), 1, "is not there yet", "rdm score ci-dit-s0")


def test_where_a_chain_ends(chain):
    """An input that was removed, and scores that came without notes, as DVC brings them."""
    shutil.rmtree(paths.train(RUN))
    shutil.rmtree("results/provenance")
    done = rdm("explain", str(SCORED))
    assert done.exit_code == 0, done.output
    assert re.search(
        rf"ends before.*\n  {paths.train(RUN)} +sha256 \w{{64}}  rdm train ci-dit-s0 --overwrite", done.stdout
    )
    assert re.search(r"commit +not recorded", done.stdout)
    assert re.search(r"versions +torch 2\n", done.stdout)


def test_a_file_of_others_is_hashed(chain, experiment):
    """Published weights: the file that the run was made from must still be what lies there."""
    weights = Path("weights.pt")
    weights.write_text("published")

    class Published:
        def __init__(self):
            from rdm.provenance.manifest import Input

            self.as_input = Input.of_file(weights)

    make(paths.train(RUN), "train", {}, weights=Published())
    assert "weights.pt" in rdm("explain", str(paths.train(RUN))).stdout
    weights.write_text("others")
    fails(rdm("explain", str(paths.train(RUN))), 1, f"another version of {weights}", "rdm train ci-dit-s0")
    weights.unlink()
    assert "ends before" in rdm("explain", str(paths.train(RUN))).stdout


def test_what_is_no_result(chain):
    fails(rdm("explain", "results/train/ci-dti-s0"), 2, "no result of the experiment 'ci'", "'results/train/ci-dit-s0'")
    fails(rdm("explain", str(SCORED), "--row", "DiT-XL/2"), 2, "is no table", "--row")
    fails(rdm("explain", "results/table1.csv"), 1, "not there yet", "rdm tables table1")
    for beside in ("figures/samples.png", "table1-runs.csv"):
        fails(rdm("explain", f"results/{beside}"), 2, "is made beside table1", "name results/table1.csv")


def test_the_examples_numbers_are_those_of_its_scores(monkeypatch):
    """Every number of ours in the committed tables, and where its chain ends."""
    monkeypatch.chdir(ROOT)
    digits = ROOT / "params" / "digits.yaml"
    for table in ("table1", "table2"):
        done = rdm("explain", str(EXAMPLE / f"{table}.csv"), "--json", params=digits)
        assert done.exit_code == 0, done.output
        numbers = json.loads(done.stdout)["numbers"]
        assert len(numbers) > 20
        assert all(number["values"] for number in numbers)
    cell = ("--row", "neural-rdm-f", "--column", "FID - control")
    done = rdm("explain", "results/example/table1.csv", *cell, params=digits)
    values = [
        json.loads((EXAMPLE / f"score/digits-rdm-f{twin}-s{seed}/guided/digits.json").read_text())["values"]["fid"][
            "value"
        ]
        for seed in (0, 1, 2)
        for twin in ("", "-control")
    ]
    differences = [ours - theirs for ours, theirs in zip(values[::2], values[1::2], strict=True)]
    assert ", ".join(f"{value:.6g}" for value in differences) in done.stdout
    assert "The chain ends before the data set" in done.stdout
    quoted = rdm("explain", "results/example/table1.csv", "--row", "BigGAN-deep", "--column", "IS paper", params=digits)
    assert "171.4, copied from the paper (LDM Table 10 prints" in quoted.stdout


@pytest.mark.parametrize("table", ["table1", "table2"])
def test_every_column_of_ours_is_known(table):
    """As readers see them; what the pages gain, the explanation must, too."""
    experiment = load(ROOT / "params" / "digits.yaml")
    titles = [cell.strip() for cell in (EXAMPLE / f"{table}.md").read_text().splitlines()[0].split("|")]
    shown = {title for title in titles if title.endswith((" ours", " − control", "accuracy"))}
    assert len(shown) > 4
    assert shown <= {column.title for column in columns_of(experiment, table)}


def test_a_table_that_was_edited(tmp_path, monkeypatch):
    """Without the note of its making, too: a number must be the mean of its scores."""
    shutil.copytree(EXAMPLE, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    shutil.rmtree("results/provenance", ignore_errors=True)
    digits, table = ROOT / "params" / "digits.yaml", Path("results/table1.csv")
    row = ("--row", "DiT-XL/2", "--column", "FID ours")
    assert rdm("explain", str(table), *row, params=digits).exit_code == 0
    value = re.search(r"^F-shaped,DiT-XL/2,.*?,9\.62,([\d.]+),", table.read_text(), re.MULTILINE).group(1)
    table.write_text(table.read_text().replace(value, "0.5"))
    fails(rdm("explain", str(table), *row, params=digits), 1, "says 0.5", f"scores give {value}", "rdm tables table1")
    other = ("--row", "DiT-XL/2", "--column", "IS ours")
    assert rdm("explain", str(table), *other, params=digits).exit_code == 0
    note = {"sha256": "of the table as it was"}
    paths.note(table).parent.mkdir()
    paths.note(table).write_text(json.dumps(note))
    words = ("is not what `rdm tables table1` wrote here last",)
    fails(rdm("explain", str(table), *other, params=digits), 1, *words)


def test_names_of_cells(monkeypatch):
    monkeypatch.chdir(ROOT)
    digits, table = ROOT / "params" / "digits.yaml", "results/example/table1.csv"
    fails(rdm("explain", table, "--row", "Neural-RDM-X", params=digits), 2, "no row 'Neural-RDM-X'", "'Neural-RDM-")
    fails(rdm("explain", table, "--column", "FID our", params=digits), 2, "no column 'FID our'", "'FID ours'")
    not_run = ("--row", "BigGAN-deep", "--column", "FID ours")
    fails(rdm("explain", table, *not_run, params=digits), 2, "no number of ours at BigGAN-deep, FID ours")


def test_the_commit(tmp_path, monkeypatch):
    """Of the checkout, and whether it was changed; elsewhere what the workflow says, or nothing."""
    environment.commit.cache_clear()
    monkeypatch.setattr(environment, "CHECKOUT", tmp_path)
    monkeypatch.setenv("RDM_COMMIT", "abc")
    assert environment.commit() == "abc"
    environment.commit.cache_clear()
    monkeypatch.delenv("RDM_COMMIT")
    assert environment.commit() is None
    assert environment.environment()["lock"] is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True)
    environment.commit.cache_clear()
    sha = environment.commit()
    assert re.fullmatch(r"[0-9a-f]{40}", sha)
    (tmp_path / "file").write_text("2")
    environment.commit.cache_clear()
    assert environment.commit() == f"{sha}-dirty"
    environment.commit.cache_clear()


def test_a_commit_changes_no_digest(chain, experiment, monkeypatch):
    """Made in another commit, with other libraries, at another time: the same content, nothing to make anew."""
    before = read(paths.data("tiny"), "").digest
    monkeypatch.setattr("rdm.provenance.manifest.environment", lambda: {"commit": "other"})
    make_chain(experiment)
    assert read(paths.data("tiny"), "").digest == before
    assert json.loads((paths.data("tiny") / "manifest.json").read_text())["environment"] == {"commit": "other"}
