"""Verdicts on claims, from score files and logs written by hand, with known effects."""

import json
import math
import shutil
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import yaml
from click.testing import CliRunner

from rdm import params, paths
from rdm.cli import main
from rdm.errors import ArtefactError, LostClaimError
from rdm.params.claims import Claim, Claims, Rows
from rdm.params.protocol import Protocol
from rdm.tables import claims as tables
from rdm.tables.claims import Judged, build_claims, conclude, interval, judge
from rdm.tables.claims_page import lay_out
from rdm.tables.evidence import Comparison
from rdm.tables.published import read_published
from rdm.tables.render import to_csv, to_markdown
from tests.conftest import CI, ROOT
from tests.tables.handmade import SPOILT, write_floor, write_published, write_scores, write_train

PUBLISHED = ROOT / "params" / "published.csv"
CLAIMS = ROOT / "params" / "claims.yaml"
EXAMPLE = ROOT / "results" / "example"
BASELINE, GATED, CONTROL = [1.5, 1.9, 1.3], [1.2, 1.5, 1.1], [1.201, 1.4995, 1.0995]
FASTER = {"kind": "rows", "column": "c2i_fid", "row": "Neural-RDM-F", "than": ["DiT-XL/2-G"]}


def rule(**statements):
    """A file of claims."""
    found = {name: Claim(text="It is so", where="Sec. 9", statement=s) for name, s in statements.items()}
    return Claims(confidence=0.95, matters=0.01, claims=found)


def fid(values, **others):
    """The metrics of a score of images: each value with an error that no verdict looks at."""
    metrics = {"fid": values, "sfid": values, "is": values, **others}
    return {name: [(value, 0.1) for value in found] for name, found in metrics.items()}


@pytest.fixture
def file(write_params, tmp_path, monkeypatch):
    """The parameter file of the ci experiment with three seeds, in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    return write_params(lambda content: content.update(seeds=[0, 1, 2]))


@pytest.fixture
def three(file):
    """This experiment; of Table 1 the F-shaped rows are scored."""
    experiment = params.load(file)
    write_scores(experiment, "dit", "guided", "images", fid(BASELINE, **{"is": [3.0, 4.0, 5.0]}))
    write_scores(experiment, "rdm-f", "plain", "images", fid(GATED, **{"is": [4.0, 5.5, 6.0]}))
    write_scores(experiment, "rdm-f-control", "plain", "images", fid(CONTROL))
    return experiment


def row(experiment, statement, kept=None):
    """What stands first in the table of one claim: the row of the experiment's own scale, if it has one."""
    return build_claims(experiment, rule(it=statement), PUBLISHED, kept).iloc[0]


# ---------------------------------------------------------------- the rule


def test_the_interval_is_students():
    generator = np.random.default_rng(0)
    for n in (2, 3, 5, 30):
        differences = generator.normal(0.3, 1, n)
        for confidence in (0.9, 0.95):
            expected = scipy.stats.ttest_1samp(differences, 0).confidence_interval(confidence)
            np.testing.assert_allclose(interval(tuple(differences), confidence), expected)
    assert interval((1.0,), 0.95) is None


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ((-0.30, -0.32, -0.31), "supported"),
        ((0.30, 0.32, 0.31), "not supported"),
        ((-0.30, -0.52, -0.01), "undecided"),
        ((-0.005, -0.0051, -0.0049), "not supported"),  # on the claimed side, and of no matter
        ((0.0, 0.0, 0.0), "not supported"),  # ties
        ((-0.009, 0.0095, 0.0001), "undecided"),  # no effect is seen, and one that matters is not ruled out
        ((-0.02, -0.02, -0.02), "supported"),
        ((-0.30,), "undecided"),
        ((0.0,), "undecided"),
        ((), "not run"),
    ],
)
def test_verdicts_follow_from_the_interval(differences, verdict):
    claims = rule(it=FASTER)
    assert judge(Comparison("it", differences, level=1.0), False, claims).verdict == verdict
    mirrored = Comparison("it", tuple(-d for d in differences), level=1.0)
    assert judge(mirrored, True, claims).verdict == verdict
    scaled = Comparison("it", tuple(1000 * d for d in differences), level=1000.0)
    assert judge(scaled, False, claims).verdict == verdict


def test_confidence_and_what_matters_are_parameters():
    found = Comparison("it", (-0.30, -0.52, -0.11), level=1.0)
    claims = rule(it=FASTER)
    assert judge(found, False, claims).verdict == "undecided"
    assert judge(found, False, claims.model_copy(update={"confidence": 0.8})).verdict == "supported"
    assert judge(found, False, claims.model_copy(update={"matters": 0.9})).verdict == "not supported"


@pytest.mark.parametrize(
    ("verdicts", "expected", "decisive"),
    [
        (["supported", "supported"], "supported", 0),
        (["supported", "undecided"], "undecided", 1),
        (["undecided", "not supported", "not run"], "not supported", 1),
        (["supported", "not run"], "undecided", 0),  # better than all that was run is not better than all
        (["not run", "not run"], "not run", 0),
    ],
)
def test_all_comparisons_must_be_supported(verdicts, expected, decisive):
    judged = [Judged(Comparison("it"), v, None if v == "not run" else -0.1 * n) for n, v in enumerate(verdicts, 1)]
    verdict, one = conclude(judged, higher=False)
    assert (verdict, one) == (expected, judged[decisive])


# ---------------------------------------------------------------- Tables 1 and 2


def test_an_effect_is_the_paired_difference_over_seeds(three):
    found = row(three, FASTER)
    expected = scipy.stats.ttest_rel(GATED, BASELINE).confidence_interval(0.95)
    assert (found["claim"], found["scale"], found["verdict"], found["seeds"]) == ("it", "ci", "supported", 3)
    assert found["effect"] == pytest.approx(statistics.fmean(GATED) - statistics.fmean(BASELINE))
    np.testing.assert_allclose([found["low"], found["high"]], expected)
    assert found["metric"] == "FID"
    assert found["relative"] == pytest.approx(found["effect"] / statistics.fmean(BASELINE))
    assert found["smallest"] == pytest.approx(0.01 * statistics.fmean(BASELINE))
    assert (found["paper_value"], found["paper_against"]) == (2.12, 2.27)
    runs = [
        f"score/ci-{system}-s{seed}/{s}/ci.json"
        for system, s in (("rdm-f", "plain"), ("dit", "guided"))
        for seed in range(3)
    ]
    assert found["rests_on"] == "; ".join(runs)
    assert all((paths.RESULTS / run).is_file() for run in runs)
    higher = row(three, FASTER | {"column": "c2i_is"})
    assert (higher["effect"], higher["verdict"]) == (pytest.approx(3.5 / 3), "supported")


def test_the_verdict_changes_with_a_score_file(three):
    path = paths.score("ci-rdm-f-s1", "plain", "ci")
    content = json.loads(path.read_text())
    for value, verdict in ((2.1, "undecided"), (1.5, "supported")):
        content["values"]["fid"]["value"] = value
        path.write_text(json.dumps(content))
        assert row(three, FASTER)["verdict"] == verdict
    for seed in range(3):
        path = paths.score(f"ci-rdm-f-s{seed}", "plain", "ci")
        content["values"]["fid"]["value"] = BASELINE[seed] + 1 + 0.01 * seed
        own = json.loads(path.read_text())
        path.write_text(json.dumps(own | {"values": content["values"]}))
    assert row(three, FASTER)["verdict"] == "not supported"


def test_the_control_is_a_row(three):
    found = row(three, FASTER | {"than": ["Neural-RDM-F: ungated control"]})
    assert found["effect"] == pytest.approx(0.0)
    assert found["verdict"] == "not supported"
    assert math.isnan(found["paper_value"])  # the paper has none


def test_of_several_rows_the_least_favourable_decides(three):
    write_scores(three, "dit", "plain", "images", fid([1.2001, 1.5001, 1.0999]))
    several = FASTER | {"than": ["BigGAN-deep", "DiT-XL/2", "DiT-XL/2-G"]}
    found = row(three, several)
    assert (found["verdict"], found["against"]) == ("not supported", "DiT-XL/2")
    assert (found["comparisons"], found["supported"], found["not_run"]) == (3, 1, 1)
    assert found["paper_against"] == 2.27  # the hardest of 6.95, 9.62, 2.27
    assert found["reason"] == "BigGAN-deep: nothing here stands for it"
    write_scores(three, "dit", "plain", "images", fid([2.2, 2.5, 2.1]))
    found = row(three, several)
    assert (found["verdict"], found["supported"]) == ("undecided", 2)
    assert row(three, FASTER | {"than": ["DiT-XL/2", "DiT-XL/2-G"]})["verdict"] == "supported"


def test_what_was_not_run_says_what_to_run(three):
    found = row(three, FASTER | {"row": "Neural-RDM-U"})
    assert found["verdict"] == "not run"
    assert "ci-rdm-u-s0" in found["reason"]
    assert "run `rdm" in found["reason"]
    assert found["rests_on"] == ""
    paths.score("ci-rdm-f-s2", "plain", "ci").unlink()
    assert "run `rdm score ci-rdm-f-s2` first" in row(three, FASTER)["reason"]


def test_one_seed_has_no_interval(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = params.load(CI)
    write_scores(experiment, "dit", "guided", "images", fid([2.0]))
    write_scores(experiment, "rdm-f", "plain", "images", fid([1.0]))
    found = row(experiment, FASTER)
    assert (found["verdict"], found["effect"], found["seeds"]) == ("undecided", -1.0, 1)
    assert math.isnan(found["low"])
    assert found["reason"] == "one seed has no interval"


@SPOILT
def test_scores_of_mixed_protocols_are_refused(file, three, edit, message):
    write_floor(three, "images", {"fid": (0.2, 0.01)})
    path = paths.score("ci-dit-s1", "guided", "ci")
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    done = rdm_claims(file)
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert str(path) in done.stderr
    assert message in done.stderr
    assert not paths.table("claims", "csv").exists()


def test_each_column_of_table2_has_its_data_set(three):
    for system, values in (("sky-latte", [50.0, 53.0, 56.0]), ("sky-rdm", [40.0, 42.0, 45.0])):
        write_scores(three, system, "clips", "sky-clips", {"fvd": [(value, 3.0) for value in values]})
    for system, sampler, values in (
        ("ucf-latte", "clips", [7.0, 8.0, 9.0]),
        ("ucf-rdm", "clips-guided", [7.5, 7.0, 9.5]),
    ):
        write_scores(
            three,
            system,
            sampler,
            "ucf-clips",
            {"fvd": [(10 * v, 1.0) for v in values], "is": [(v, 1.0) for v in values]},
        )
    video = {"kind": "rows", "row": "Neural-RDM", "than": ["Latte-XL"]}
    sky, ucf = (row(three, video | {"column": column}) for column in ("skytimelapse_fvd", "ucf101_fvd"))
    assert (sky["effect"], sky["verdict"]) == (pytest.approx(-32 / 3), "supported")
    assert (ucf["effect"], ucf["verdict"]) == (pytest.approx(0.0), "undecided")
    frames = row(three, video | {"column": "frame_is"})
    assert (frames["effect"], frames["verdict"]) == (pytest.approx(0.0), "undecided")
    assert row(three, video | {"column": "taichi_hd_fvd"})["scale"] == tables.PAPER  # ci has no such data


def test_published_samples_are_a_fixed_number(write_params, tmp_path, monkeypatch):
    """They have no seeds: every seed of ours is compared with them, and their error is one that all seeds share."""
    monkeypatch.chdir(tmp_path)
    np.save("theirs.npy", np.zeros((3, 4, 16, 16, 1), np.uint8))

    def change(content):
        content["seeds"] = [0, 1, 2]
        content["published"] = {"theirs": {"data": "ucf", "path": "theirs.npy"}}
        content["tables"]["table2"]["rows"].append({"row": "PVDM", "cells": [{"samples": "theirs"}]})

    experiment = params.load(write_params(change))
    values = [70.0, 72.0, 71.0]
    write_scores(experiment, "ucf-rdm", "clips-guided", "ucf-clips", {"fvd": [(value, 1.0) for value in values]})
    claims = rule(it={"kind": "rows", "column": "ucf101_fvd", "row": "Neural-RDM", "than": ["PVDM"]})
    for error, verdict in ((0.0, "supported"), (3.0, "undecided")):
        write_published(experiment, "theirs", "ucf-clips", {"fvd": (80.0, error)})
        table = build_claims(experiment, claims, PUBLISHED)
        found = table.iloc[0]
        width = scipy.stats.t.ppf(0.975, 2) * math.hypot(1 / math.sqrt(3), error)
        assert (found["effect"], found["verdict"]) == (pytest.approx(-9), verdict)
        np.testing.assert_allclose([found["low"], found["high"]], [-9 - width, -9 + width])
    assert found["rests_on"].endswith("score/published/theirs/ci_clips.json")
    assert "the interval also holds the standard error of their score" in to_markdown(lay_out(table, claims))
    Path("theirs.npy").unlink()  # of many gigabytes, perhaps: the other claims are judged without
    found = build_claims(experiment, claims, PUBLISHED).iloc[0]
    assert found["verdict"] == "not run"
    assert "theirs.npy is not there yet; get it, and run `rdm score theirs` again" in found["reason"]


def test_only_shared_seeds_are_paired(write_params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def change(content):
        content["seeds"] = [0, 1, 2]
        content["train"]["baselines"]["ldm4"]["seeds"] = [1, 2, 4]

    experiment = params.load(write_params(change))
    write_scores(experiment, "ldm4", "plain", "images", fid([10.0, 20.0, 1000.0]))
    write_scores(experiment, "rdm-f", "plain", "images", fid([-1000.0, 8.0, 17.0]))
    found = row(experiment, FASTER | {"than": ["LDM-4"]})
    assert (found["effect"], found["seeds"]) == (-2.5, 2)


# ---------------------------------------------------------------- figures


def write_variants(experiment, last):
    """Of each unit 100, 101, 102 after two steps, and these values after four."""
    for variant, values in last.items():
        write_scores(experiment, f"dit-{variant}", "plain-step2", "images", fid([100.0, 101.0, 102.0]))
        write_scores(experiment, f"dit-{variant}", "plain", "images", fid(values))


def test_the_units_of_figure6(three):
    last = {"rdm": [5.0, 6.0, 7.0], "adaln": [7.0, 8.0, 9.1], "skip": [8.0, 9.0, 10.1]}
    write_variants(three, last | {"resnet": [9.0, 10.0, 11.1], "rezero": [5.01, 6.02, 7.0]})
    lowest = {"kind": "variants", "variant": "rdm", "than": ["adaln", "skip", "resnet"]}
    found = row(three, lowest)
    assert (found["verdict"], found["against"], found["supported"]) == ("supported", "adaln", 3)
    found = row(three, lowest | {"than": ["adaln", "rezero"]})
    assert (found["verdict"], found["against"]) == ("not supported", "rezero")
    found = row(three, {"kind": "steps", "variants": ["rdm", "rezero"]})
    assert (found["verdict"], found["effect"]) == ("supported", pytest.approx(18.03 / 3 - 101))
    assert found["against"] == "rezero after 2 steps"
    assert "score/ci-dit-rdm-s2/plain-step2/ci.json" in found["rests_on"]


def test_depths_and_gates_of_figure7(three):
    for system, values in (("1", [20.0, 21.0, 22.0]), ("2", [15.0, 16.0, 17.5])):
        write_scores(three, f"dit-depth{system}", "plain", "images", fid(values))
        write_scores(
            three, f"dit-depth{system}-gated", "plain", "images", fid([v - 2 + 0.1 * n for n, v in enumerate(values)])
        )
    found = row(three, {"kind": "depth", "gated": True})
    assert (found["verdict"], found["against"]) == ("supported", "depth 1")
    assert found["effect"] == pytest.approx(48.5 / 3 - 21)
    expected = scipy.stats.ttest_1samp([-2.0, -1.9, -1.8], 0).confidence_interval(0.95)
    for at, level in (("all", (21 + 48.5 / 3) / 2), ("deepest", 48.5 / 3)):
        found = row(three, {"kind": "gates_by_depth", "at": at})
        np.testing.assert_allclose([found["low"], found["high"]], expected)
        assert found["smallest"] == pytest.approx(0.01 * level)
        assert found["verdict"] == "supported"


def write_logs(experiment, arms):
    """arms: ending of the system's name -> what is added to every log-sensitivity."""
    for ending, more in arms.items():
        for seed in experiment.seeds:
            lines = [
                {"step": step, "sensitivity": [-1 + more + 0.1 * step + 0.001 * seed, -0.5 + more, 3.0, 3.0]}
                for step in (2, 4)
            ]
            write_train(experiment, f"ci-rdm-f{ending}-s{seed}", "".join(json.dumps(line) + "\n" for line in lines))


def test_sensitivities_of_figure5_come_from_the_logs(three):
    """Of five states the first two are shallow, one of which rises by 0.2 from step 2 to step 4."""
    write_logs(three, {"": 0.3, "-unsupervised": 0.1, "-control": 0.0})
    asked = {"kind": "sensitivity", "row": "Neural-RDM-F", "arm": "gates, supervised", "direction": "higher"}
    for than, effect in (("without gates", 0.3), ("gates", 0.2), ("the first step", 0.1)):
        found = row(three, asked | {"than": than})
        assert (found["verdict"], found["against"]) == ("supported", than)
        assert found["effect"] == pytest.approx(effect, abs=1e-5)
        assert found["relative"] == pytest.approx(math.expm1(effect), abs=1e-5)
    decays = asked | {"arm": "without gates", "direction": "lower", "than": "the deepest state"}
    found = row(three, decays)
    assert (found["verdict"], found["effect"]) == ("supported", pytest.approx(((-1 + 0.4 + 0.001) - 0.5) / 2, abs=1e-5))
    assert found["rests_on"] == "; ".join(f"train/ci-rdm-f-control-s{seed}/log.jsonl" for seed in range(3))
    assert row(three, asked | {"than": "without gates", "direction": "lower"})["verdict"] == "not supported"
    write_logs(three, {"-control": -20.0})  # far below what six decimals could show
    assert row(three, decays)["effect"] == pytest.approx(found["effect"] - 20, abs=1e-5)
    shutil.rmtree(paths.train("ci-rdm-f-control-s1"))
    assert "run `rdm train ci-rdm-f-control-s1` first" in row(three, decays)["reason"]


# ---------------------------------------------------------------- scales, and what cannot be measured


def test_text_to_image_is_judged_by_its_own_systems(three):
    """By those in the columns of text, with their own control."""
    write_scores(three, "dit-text", "guided", "images", fid(GATED))
    write_scores(three, "rdm-f-text", "plain", "images", fid(BASELINE))
    write_scores(three, "rdm-f-text-control", "plain", "images", fid(CONTROL))
    labels, text = row(three, FASTER), row(three, FASTER | {"column": "t2i_fid"})
    assert text["effect"] == pytest.approx(-labels["effect"])
    than = {"than": ["Neural-RDM-F: ungated control"]}
    expected = np.mean(BASELINE) - np.mean(CONTROL)
    assert row(three, FASTER | than | {"column": "t2i_fid"})["effect"] == pytest.approx(expected)


def test_the_papers_scale_is_not_run_until_it_is(three):
    table = build_claims(three, rule(it=FASTER), PUBLISHED)
    assert table[["scale", "verdict"]].values.tolist() == [["ci", "supported"], [tables.PAPER, "not run"]]
    assert table["reason"][1] == "run at the scale 'ci' only"
    protocol = three.protocols["images"].model_copy(update={"paper_scale": True})
    large = three.model_copy(update={"protocols": three.protocols | {"images": protocol}})
    for system, sampler, values in (("dit", "guided", BASELINE), ("rdm-f", "plain", GATED)):
        write_scores(large, system, sampler, "images", fid(values))
    table = build_claims(large, rule(it=FASTER), PUBLISHED)
    assert table[["scale", "verdict"]].values.tolist() == [[tables.PAPER, "supported"]]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ({"kind": "unmeasured", "reason": "It is a thought."}, "It is a thought."),
        (FASTER | {"column": "t2i_fid", "row": "Latte-XL"}, "no table or figure of experiment 'ci' measures it"),
        (FASTER | {"than": ["BigGAN-deep"]}, "no table or figure of experiment 'ci' measures it"),
        ({"kind": "rows", "column": "taichi_hd_fvd", "row": "Neural-RDM", "than": ["Latte-XL"]}, "no table or figure"),
        (
            {"kind": "sensitivity", "row": "DiT-XL/2", "arm": "gates", "direction": "lower", "than": "without gates"},
            "no table",
        ),
    ],
)
def test_what_cannot_be_measured_is_not_run_and_says_why(three, statement, reason):
    [found] = build_claims(three, rule(it=statement), PUBLISHED).to_dict("records")
    assert (found["scale"], found["verdict"]) == (tables.PAPER, "not run")
    assert found["reason"].startswith(reason)


# ---------------------------------------------------------------- the verb


def rdm_claims(file, *options):
    return CliRunner().invoke(main, ["claims", "--params", str(file), *options])


def commit(folder="", **verdicts):
    """A committed table of claims at the scale of ci, of the default experiment or of another."""
    rows = [(name.replace("_", "-"), "ci", verdict) for name, verdict in verdicts.items()]
    (tables.EXAMPLES / folder).mkdir(parents=True, exist_ok=True)
    (tables.EXAMPLES / folder / "claims.csv").write_text(
        to_csv(pd.DataFrame(rows, columns=["claim", "scale", "verdict"]))
    )


def test_rdm_claims_writes_and_prints_what_is_there(file, three):
    done = rdm_claims(file)
    assert done.exit_code == 0
    assert "f-baseline-fid" in done.output
    assert f"{GATED[0] - BASELINE[0]:.1g}".replace("-", "−") in done.output
    assert "u-baseline-fid" not in done.output  # not run
    assert "the paper's own: 55 not run" in done.output
    written = pd.read_csv(paths.table("claims", "csv"))
    assert set(written[written["verdict"] != "not run"]["scale"]) == {"ci"}
    assert len(written[written["scale"] == tables.PAPER]) == len(params.load_claims(CLAIMS).claims)
    shown = paths.table("claims", "md").read_text()
    assert "FID of Neural-RDM-F lower than of DiT-XL/2-G" in shown.split("Not run:")[0]
    assert "SDXL" in shown.split("Not run:")[1]
    first = [paths.table("claims", suffix).read_bytes() for suffix in ("csv", "md")]
    rows = json.loads(rdm_claims(file, "--json").output)
    assert rows[0]["claim"] == "f-all-fid"
    done = CliRunner().invoke(main, ["tables", "claims", "--params", str(file)])
    assert done.output == "results/claims.csv\nresults/claims.md\nresults/claims.html\n"
    assert [paths.table("claims", suffix).read_bytes() for suffix in ("csv", "md")] == first


def test_without_any_result_nothing_is_run(file):
    done = rdm_claims(file)
    assert done.exit_code == 0
    assert set(pd.read_csv(paths.table("claims", "csv"))["verdict"]) == {"not run"}


def test_a_supported_claim_that_no_longer_is_ends_with_3(file, three):
    commit(f_baseline_fid="supported", f_gates_fid="not supported", u_baseline_fid="supported", gone="supported")
    assert rdm_claims(file).exit_code == 0  # what was not run says nothing against what was supported
    write_scores(three, "rdm-f", "plain", "images", fid([1.2, 2.5, 1.1]))
    done = rdm_claims(file)
    assert done.exit_code == 3
    assert done.stderr.startswith("Error: results/example/claims.csv calls supported")
    assert "f-baseline-fid (ci: undecided)" in done.stderr
    assert "u-baseline" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert pd.read_csv(paths.table("claims", "csv"))["verdict"].eq("undecided").any()  # written, to look at
    assert CliRunner().invoke(main, ["tables", "claims", "--params", str(file)]).exit_code == 0  # a result, no failure
    commit(f_baseline_fid="undecided")
    assert rdm_claims(file).exit_code == 0
    commit("ci", f_baseline_fid="supported")
    assert rdm_claims(file).stderr.startswith("Error: results/example/ci/claims.csv calls supported")
    (tables.EXAMPLES / "claims.csv").write_text("damaged")
    done = rdm_claims(file)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "claims.csv is damaged" in done.stderr


def test_another_scale_is_another_claim():
    table = pd.DataFrame({"claim": ["it", "it"], "scale": ["ci", "digits"], "verdict": ["undecided", "supported"]})
    tables.require(table, {("it", "digits"): Path("claims.csv")})
    with pytest.raises(LostClaimError, match="claims.csv calls supported .* it .ci: undecided"):
        tables.require(table, {("it", "ci"): Path("claims.csv")})


def test_bad_claims_are_one_sentence(file, three):
    def edited(change):
        content = yaml.safe_load(CLAIMS.read_text())
        change(content["claims"]["f-baseline-fid"]["statement"])
        file.with_name("claims.yaml").write_text(yaml.safe_dump(content))
        done = rdm_claims(file)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        return done.stderr

    assert "colum: unknown key; did you mean 'column'?" in edited(lambda s: s.update(colum="c2i_fid"))
    assert "'DiT-XL/2-H' is no row of the paper's; did you mean 'DiT-XL/2-G'" in edited(
        lambda s: s.update(than=["DiT-XL/2-H"])
    )
    assert "'Neural-RDM' is no row" in edited(lambda s: s.update(row="Neural-RDM"))  # of Table 2 alone
    assert "'Neural-RDM-F' is compared with itself" in edited(lambda s: s.update(than=["Neural-RDM-F"]))
    assert "(it is 'c2i_fvd')" in edited(lambda s: s.update(column="c2i_fvd"))
    assert "names one twice" in edited(lambda s: s.update(than=["ADM", "ADM"]))
    file.with_name("claims.yaml").unlink()
    assert "copy params/claims.yaml" in rdm_claims(file).stderr
    assert rdm_claims(file, "--results", "nowhere").exit_code == 2


# ---------------------------------------------------------------- the claims themselves, and the example


def test_the_paper_prints_what_it_claims():
    """Each claim on rows holds in the printed tables, and by more than three times what matters."""
    claims = params.load_claims(CLAIMS)
    printed = {
        table: {row.name: row.values for row in read_published(PUBLISHED, table)} for table in ("table1", "table2")
    }
    checked = 0
    for name, claim in claims.claims.items():
        statement = claim.statement
        if not isinstance(statement, Rows):
            continue
        column, rows = statement.column, printed[statement.table]
        sign = 1 if column.endswith("_is") else -1
        for other in statement.than:
            if other in rows and column in rows[statement.row]:
                margin = sign * (rows[statement.row][column] - rows[other][column]) / rows[other][column]
                assert margin > 3 * claims.matters, (name, other)
                checked += 1
    assert checked > 90


def test_baselines_are_all_that_the_paper_prints():
    """A claim on all of them leaves none out, but LDM-8 and LDM-4 where no sFID is printed."""
    claims = params.load_claims(CLAIMS).claims
    ours = {"table1": 2, "table2": 1}  # rows of Neural-RDM
    for name in ("f-all-fid", "f-all-sfid", "f-all-is", "sky-all", "taichi-all", "frames-all-fid", "frames-all-is"):
        statement = claims[name].statement
        rows = [row for row in read_published(PUBLISHED, statement.table) if statement.column in row.values]
        assert len(statement.than) == len(rows) - ours[statement.table], name


def example(tmp_path, monkeypatch):
    """The committed example in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(EXAMPLE, paths.RESULTS / "example")
    return params.load(ROOT / "params" / "digits.yaml")


@pytest.mark.parametrize(("name", "folder"), [("digits", ""), ("fashion", "fashion"), ("longer", "longer")])
def test_the_examples_claims_are_those_of_its_scores(name, folder, tmp_path, monkeypatch):
    """Every character of them: from the scores and figures that lie beside them, under today's parameters."""
    example(tmp_path, monkeypatch)
    kept = paths.RESULTS / "example" / folder
    done = rdm_claims(ROOT / "params" / f"{name}.yaml", "--results", str(kept))
    assert done.exit_code == 0, done.output
    for suffix in ("csv", "md"):
        assert (kept / f"claims.{suffix}").read_text() == (EXAMPLE / folder / f"claims.{suffix}").read_text()
    assert not paths.table("claims", "csv").exists()


def test_kept_scores_of_other_parameters_are_refused(tmp_path, monkeypatch):
    """What was recorded must hold; keys that are younger than the record are not compared."""
    experiment = example(tmp_path, monkeypatch)
    kept = paths.RESULTS / "example"
    path = paths.within(kept, paths.score("digits-rdm-f-s1", "guided", "digits"))
    content = json.loads(path.read_text())
    content["recipe"]["parameters"]["train"].pop("weight_decay")
    path.write_text(json.dumps(content))
    before = row(experiment, FASTER, kept)
    content["recipe"]["parameters"]["train"]["steps"] = 401
    path.write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match="was made with other parameters"):
        row(experiment, FASTER, kept)
    content["recipe"]["parameters"]["train"] |= {"steps": 400, "older": 1}
    path.write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match="was made with other parameters"):
        row(experiment, FASTER, kept)
    path.unlink()
    assert row(experiment, FASTER, kept)["verdict"] == "not run"
    assert before["seeds"] == 3


def test_kept_scores_outlive_a_younger_key_of_their_protocol(tmp_path, monkeypatch):
    class Younger(Protocol):
        younger: int = 1

    experiment = example(tmp_path, monkeypatch)
    protocols = {name: Younger(**protocol.model_dump()) for name, protocol in experiment.protocols.items()}
    kept, changed = paths.RESULTS / "example", experiment.model_copy(update={"protocols": protocols})
    assert row(changed, FASTER, kept)["effect"] == row(experiment, FASTER, kept)["effect"]


def test_a_kept_figure5(tmp_path, monkeypatch):
    experiment = example(tmp_path, monkeypatch)
    kept, asked = paths.RESULTS / "example", {"kind": "sensitivity", "row": "Neural-RDM-U", "arm": "without gates"}
    decays = asked | {"direction": "lower", "than": "the deepest state"}
    numbers = paths.within(kept, paths.figure("figure5", "csv"))
    table = pd.read_csv(numbers)
    chosen = table[(table.system == "rdm-u") & (table.arm == "without gates") & (table.step == 400) & (table.state < 4)]
    expected = np.log(chosen.sensitivity).groupby(chosen.seed).mean().mean()
    assert row(experiment, decays, kept)["effect"] == pytest.approx(expected)
    table[table.seed < 2].to_csv(numbers, index=False)
    assert "lacks seeds or steps of 'rdm-u'" in row(experiment, decays, kept)["reason"]
    nothing = table.assign(sensitivity=0.0).to_csv(index=False)  # it has no logarithm
    for damaged in ("system,arm\nrdm-u,without gates\n", nothing):
        numbers.write_text(damaged)
        with pytest.raises(ArtefactError, match="figure5.csv is damaged"):
            row(experiment, decays, kept)
    numbers.unlink()
    assert "figure5.csv is not there yet" in row(experiment, decays, kept)["reason"]


def test_the_page_of_an_empty_table(file):
    table = build_claims(params.load(file), rule(it={"kind": "unmeasured", "reason": "A thought."}), PUBLISHED)
    assert "A thought." in to_markdown(lay_out(table, rule(it=FASTER)))
