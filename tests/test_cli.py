"""The command line as a stranger meets it: helpful when asked, one sentence when something is wrong."""

import json
import os
import runpy
import shutil
import subprocess
import sys

from click.testing import CliRunner

from rdm import paths
from rdm.cli import main
from tests.conftest import CI, FIGURES, ROOT


def rdm(*arguments, params=CI):
    return CliRunner().invoke(main, [*arguments, *(["--params", str(params)] if params else [])])


def fails(result, code, *words):
    """One sentence on stderr that holds the words, the exit code, no traceback."""
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def test_the_reference_is_what_help_says():
    """docs/cli.md is current; `make cli` writes it."""
    written = runpy.run_path(str(ROOT / "workflow" / "scripts" / "cli_reference.py"))
    assert written["PAGE"].read_text() == written["reference"](), "run `make cli`"


def test_help_is_light():
    code = "import sys, rdm.cli; sys.exit(str({'torch', 'pydantic', 'numpy', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"


def test_a_reader_that_has_enough_is_no_error():
    """`rdm params show | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "rdm", "params", "show", "--params", str(CI)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.stderr == ""


def test_no_verb_and_unknown_verbs():
    assert "results/table1.csv" in rdm("--help", params=None).output
    assert rdm("trian", "x", params=None).exit_code == 2
    assert rdm("train", params=None).exit_code == 2


def test_unknown_names(workspace):
    fails(rdm("data", "tini"), 2, "'tini'", "'tiny'")
    fails(rdm("autoencoder", "f5"), 2, "'f5'", "'f4'")
    fails(rdm("latents", "f5"), 2, "'f5'", "'f4'")
    fails(rdm("train", "ci-dti-s0"), 2, "'ci-dti-s0'", "'ci-dit-s0'")
    fails(rdm("sample", "ci-dit-s5"), 2, "'ci-dit-s5'", "'ci-dit-s0'")
    fails(rdm("score", "ci-dit-s0", "ci-dit-s7"), 2, "'ci-dit-s7'", "'ci-dit-s0'")
    fails(rdm("score", "floor"), 2, "nothing to score named 'floor'", "'floor-images'")
    fails(rdm("score", "floor-ucf"), 2, "'floor-ucf'", "'floor-ucf-clips'")
    fails(rdm("extractor", "image"), 2, "no score 'image'", "'images'")
    fails(rdm("extractor", "tiny"), 2, "no score 'tiny'", "images, sky-clips, ucf-clips, ucf-frames")
    fails(rdm("tables", "table3"), 2, "no table 'table3'", "'table")
    fails(rdm("figures", "figure8"), 2, "no figure 'figure8'", "'figure")


def test_runs_that_nothing_samples(workspace):
    """A network of frames is there for the Latte that starts from it."""
    for verb in ("sample", "score"):
        fails(
            rdm(verb, "ci-ucf-frames-s0"), 2, "No table or figure samples 'ci-ucf-frames-s0'", "that one of them shows"
        )


def test_names_that_are_missing(workspace):
    for verb in ("data", "autoencoder", "latents", "extractor", "train", "sample", "score", "figures"):
        done = rdm(verb)
        assert done.exit_code == 2, verb
        assert "Missing argument" in done.stderr


def test_what_a_parameter_file_leaves_out(workspace, write_params):
    """An experiment without videos and curves has no Table 2 and no such figures."""

    def less(content):
        del content["tables"]["table2"]
        for name in FIGURES:
            del content["figures"][name]

    changed = write_params(less)
    fails(rdm("tables", "table2", params=changed), 2, "no table 'table2'", "'table1'")
    for name, nearest in zip(FIGURES, ("figure5", "figure5", "gates"), strict=True):
        fails(rdm("figures", name, params=changed), 2, f"no figure {name!r}; did you mean {nearest!r}")


def test_bad_parameters(workspace, write_params):
    def break_key(content):
        content["train"]["baselines"]["dit"]["stepz"] = 1

    def negative(content):
        content["train"]["baselines"]["dit"]["steps"] = -1

    fails(rdm("train", "ci-dit-s0", params=write_params(break_key)), 2, "stepz", "'steps'")
    fails(rdm("train", "ci-dit-s0", params=write_params(negative)), 2, "steps", "-1")
    fails(rdm("params", "check", str(write_params(negative)), params=None), 2, "steps")
    fails(rdm("train", "ci-dit-s0", params="nowhere.yaml"), 2, "nowhere.yaml", "--params")


def test_params_show_and_check(write_params):
    shown = json.loads(rdm("params", "show", "--json").output)
    assert shown["train"]["baselines"]["dit"]["weight_decay"] == 0  # defaults are shown, too
    assert "ci-rdm-f-control-s0" in shown["runs"]
    assert "weight_decay" in rdm("params", "show").output
    # five baselines; four gated systems, each with a control and a twin without supervision; Figures 6 and 7, and rates
    assert f"fine ({5 + 4 * 3 + 5 + 2 * 2 + 2 + 2 * 3 + 1} runs)" in rdm("params", "check", str(CI), params=None).output


def test_missing_and_damaged_inputs(workspace):
    images = workspace / paths.data("tiny") / "test_images.npy"
    content = images.read_bytes()
    images.write_bytes(content[:-1] + b"\x07")
    fails(rdm("score", "floor-images"), 1, "test_images.npy is damaged", "rdm data tiny")
    images.unlink()
    fails(rdm("score", "floor-images"), 1, "test_images.npy is missing", "rdm data tiny")
    shutil.rmtree(workspace / "results")
    fails(rdm("autoencoder", "f4"), 1, "not there yet", "rdm data tiny")
    fails(rdm("train", "ci-dit-s0"), 1, "not there yet", "rdm latents f4")
    assert not (workspace / "results").exists()


def test_a_finished_run_is_not_done_again_nor_replaced(workspace, write_params):
    folder = workspace / paths.train("ci-dit-s0")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert rdm("train", "ci-dit-s0").exit_code == 0

    def more_steps(content):
        content["train"]["baselines"]["dit"]["steps"] = 5

    changed = write_params(more_steps)
    fails(rdm("train", "ci-dit-s0", params=changed), 1, "train.steps: 4 there, 5 now", "--overwrite")
    fails(rdm("sample", "ci-dit-s0", params=changed), 1, "train.steps: 4 there, 5 now", "rdm train ci-dit-s0")
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert rdm("train", "ci-dit-s0", "--overwrite", params=changed).exit_code == 0
    assert json.loads((folder / "manifest.json").read_text())["facts"]["step"] == 5


def test_no_place_to_write(workspace):
    shutil.rmtree(workspace / "results")
    (workspace / "results").write_text("a file is in the way")
    fails(rdm("data", "tiny"), 1, "results", "check owner, permissions")


def test_a_device_that_is_not_there(workspace, write_params):
    changed = write_params(lambda content: content.update(device="cuda:7"))
    assert rdm("sample", "ci-dit-s0", params=changed).exit_code == 0  # they are there already
    shutil.rmtree(paths.sample("ci-dit-s0", "plain"))
    fails(rdm("sample", "ci-dit-s0", params=changed), 2, "'cuda:7' is not available", "device: auto")


def test_a_figure_of_runs_that_are_not_there(workspace):
    fails(rdm("figures", "figure5"), 1, "ci-rdm-u-unsupervised-s0 is not there yet")


def test_tables_as_json(workspace):
    rows = json.loads(rdm("tables", "--json").output)
    assert rows[0]["method"] == "BigGAN-deep"
    assert rows[0]["c2i_fid_ours"] is None
