"""Table 2 from score files written by hand: three seeds, two data sets, three columns of one of them."""

import json
import math
import statistics

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from PIL import Image

from rdm import params, paths
from rdm.errors import ArtefactError, UsageError
from rdm.tables import pages, render, stage
from rdm.tables.build import build_table2
from rdm.tables.figures import draw_clips
from tests.conftest import CI, ROOT
from tests.tables.handmade import with_seeds, write_floor, write_published, write_sample, write_scores

PUBLISHED = ROOT / "params" / "published.csv"
PAPER_ROWS = [
    *("MoCoGAN", "MoCoGAN-HD", "DIGAN", "StyleGAN-V", "MoStGAN-V", "PVDM", "LVDM", "VideoGPT", "Latte-XL"),
    "Neural-RDM",
]
SKY = {"sky-latte": [(50.0, 3.0), (53.0, 4.0), (56.0, 12.0)], "sky-rdm": [(40.0, 1.0), (41.0, 1.0), (42.0, 1.0)]}
SKY["sky-rdm-control"] = [(41.0, 1.0), (43.0, 1.0), (45.0, 1.0)]
UCF = {
    ("ucf-latte", "clips"): [(90.0, 1.0), (91.0, 1.0), (92.0, 1.0)],
    ("ucf-latte", "clips-guided"): [(80.0, 1.0), (81.0, 1.0), (85.0, 1.0)],
    ("ucf-rdm", "clips-guided"): [(71.0, 1.0), (72.0, 1.0), (73.0, 1.0)],
    ("ucf-rdm-control", "clips-guided"): [(70.0, 1.0), (72.0, 1.0), (77.0, 1.0)],
}
FLOORS = {
    "sky-clips": {"fvd": (9.0, 0.5), "is": (1.0, 0.1)},
    "ucf-clips": {"fvd": (11.0, 0.7), "is": (9.0, 0.1)},
    "ucf-frames": {"fid": (0.4, 0.05), "identity": (0.95, 0.01)},
}


def scored(experiment):
    """Write all that Table 2 of the ci experiment reads."""
    number = range(len(experiment.seeds))
    for system, fvd in SKY.items():
        write_scores(experiment, system, "clips", "sky-clips", {"fvd": fvd, "is": [(1.5, 0.1)] * 3})
    for (system, sampler), fvd in UCF.items():
        write_scores(experiment, system, sampler, "ucf-clips", {"fvd": fvd, "is": [(7.0 + s, 0.3) for s in number]})
        fid = [(value / 20, error / 20) for value, error in fvd]
        kept = [(value / 100, error / 100) for value, error in fvd]
        write_scores(experiment, system, sampler, "ucf-frames", {"fid": fid, "identity": kept})
    for score, metrics in FLOORS.items():
        write_floor(experiment, score, metrics)
    return experiment


@pytest.fixture
def three(tmp_path, monkeypatch):
    """The ci experiment with three seeds."""
    monkeypatch.chdir(tmp_path)
    return scored(with_seeds(params.load(CI), [0, 1, 2]))


@pytest.fixture
def table(three):
    return build_table2(three, PUBLISHED).set_index("method")


def page(experiment):
    return pages.page2(build_table2(experiment, PUBLISHED), experiment)


def test_the_papers_rows_controls_further_rows_and_the_floor(table):
    assert list(table.index[:10]) == PAPER_ROWS
    assert list(table.index[10:]) == ["Neural-RDM: ungated control", "Latte-XL, guided", "real clips (floor)"]
    assert table.loc["Latte-XL", "ucf101_fvd_paper"] == 477.97
    assert table.loc["PVDM", "architecture"] == "U-shaped"
    assert set(table["architecture"][10:]) == {"not in the paper"}


def test_means_spreads_and_standard_errors_are_those_over_seeds(table):
    row = table.loc["Latte-XL"]
    assert row["skytimelapse_fvd_ours"] == 53.0
    assert row["skytimelapse_fvd_spread"] == 3.0
    assert row["skytimelapse_fvd_standard_error"] == pytest.approx(math.sqrt(9 + 16 + 144) / 3)
    assert row["ucf101_fvd_ours"] == 91.0
    assert row["frame_fid_ours"] == pytest.approx(91.0 / 20)
    assert row["frame_fid_spread"] == pytest.approx(1 / 20)
    assert row["frame_is_ours"] == 8.0
    assert row["frame_is_standard_error"] == pytest.approx(0.3 / math.sqrt(3))
    assert row["frame_is_protocol"] == row["ucf101_fvd_protocol"] == "ci_clips"
    assert row["frame_fid_protocol"] == "ci_frames"
    assert row["scale"] == "ci"


def test_each_data_set_has_a_cell_and_a_sampler_of_its_own(table):
    row = table.loc["Neural-RDM"]
    assert (row["skytimelapse_fvd_sampler"], row["ucf101_fvd_sampler"]) == ("clips", "clips-guided")
    assert (row["skytimelapse_fvd_ours"], row["ucf101_fvd_ours"]) == (41.0, 72.0)
    assert row["ucf101_fvd_seeds"] == 3
    guided = table.loc["Latte-XL, guided"]
    assert guided["ucf101_fvd_ours"] == 82.0
    assert pd.isna(guided["skytimelapse_fvd_ours"])
    assert guided["skytimelapse_fvd_origin"] == guided["skytimelapse_fvd_verdict"] == ""


def test_differences_to_the_control_are_paired(table):
    row, control = table.loc["Neural-RDM"], table.loc["Neural-RDM: ungated control"]
    assert row["skytimelapse_fvd_minus_control"] == -2.0
    assert row["skytimelapse_fvd_minus_control_spread"] == statistics.stdev([-1, -2, -3])
    assert row["ucf101_fvd_minus_control"] == -1.0
    assert row["ucf101_fvd_minus_control_spread"] == statistics.stdev([1, 0, -4])
    assert row["frame_is_minus_control"] == 0.0
    assert control["ucf101_fvd_ours"] == 73.0
    without = table.drop("Neural-RDM")
    assert without[[column for column in table if "minus_control" in column]].isna().all(axis=None)


def test_what_was_not_run_is_empty(table):
    for row in set(PAPER_ROWS) - {"Latte-XL", "Neural-RDM"}:
        assert pd.isna(table.loc[row, "ucf101_fvd_ours"])
        assert table.loc[row, "ucf101_fvd_verdict"] == "not run"
        assert table.loc[row, "ucf101_fvd_origin"] == "quoted"
    assert table["taichi_hd_fvd_ours"].isna().all()
    assert table.loc["Latte-XL", "taichi_hd_fvd_verdict"] == "not run"
    assert table.loc["MoCoGAN", "taichi_hd_fvd_verdict"] == table.loc["MoCoGAN", "taichi_hd_fvd_origin"] == ""
    assert table.loc["Latte-XL", "ucf101_fvd_verdict"] == "not comparable"
    assert table.loc["Latte-XL", "ucf101_fvd_origin"] == "run"


def test_the_floor_stands_below_every_fvd(table):
    floor = table.loc["real clips (floor)"]
    assert (floor["skytimelapse_fvd_ours"], floor["ucf101_fvd_ours"]) == (9.0, 11.0)
    assert (floor["frame_fid_ours"], floor["frame_is_ours"]) == (0.4, 9.0)
    assert floor["ucf101_fvd_standard_error"] == 0.7
    assert pd.isna(floor["ucf101_fvd_spread"])
    assert pd.isna(floor["ucf101_fvd_seeds"])


def test_remarks_name_the_columns_that_they_are_about(table):
    assert table.loc["MoCoGAN-HD", "remarks"].endswith("Taichi FVD: looks like DIGAN's number")
    assert table.loc["PVDM", "remarks"].startswith(
        "Latte's re-run; disputed, the PVDM paper's own are far lower; Frame"
    )
    assert table.loc["Neural-RDM", "remarks"] == "Frame FID, Frame IS: data set not stated (reading R9)"


def paper_scale(experiment, score):
    """The same experiment, in which one score's protocol is the paper's."""
    protocol = experiment.protocols[score].model_copy(update={"paper_scale": True})
    return experiment.model_copy(update={"protocols": experiment.protocols | {score: protocol}})


def test_verdicts_are_those_of_the_columns_own_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = scored(paper_scale(with_seeds(params.load(CI), [0, 1, 2]), "sky-clips"))
    table = build_table2(experiment, PUBLISHED).set_index("method")
    assert table.loc["Latte-XL", "skytimelapse_fvd_verdict"] == "differs"  # 53 against 59.82
    assert table.loc["Neural-RDM", "skytimelapse_fvd_verdict"] == "reproduced"  # 41 against 39.89
    assert table.loc["Neural-RDM", "ucf101_fvd_verdict"] == "not comparable"
    cells = page(experiment).cells.set_index("Method")
    assert cells.loc["Neural-RDM", "Verdict"] == (
        "Frame FID: not comparable, Frame IS: not comparable, Sky FVD: reproduced, UCF FVD: not comparable"
    )
    notes = "\n".join(page(experiment).notes)
    assert "Reproduced: within 5 %" in notes
    assert "Not comparable" in notes


def test_readers_see_errors_differences_and_what_the_numbers_are(three):
    shown = page(three)
    cells = shown.cells.set_index("Method")
    assert cells.loc["Latte-XL", "Sky FVD paper"] == "59.82"
    assert cells.loc["Latte-XL", "Sky FVD ours"] == "53.00 ± 3.00"
    assert cells.loc["Neural-RDM", "UCF FVD − control"] == "−1.000 ± 2.646"
    assert cells.loc["real clips (floor)", "UCF FVD ours"] == "11.00 ± 0.70"
    assert cells.loc["VideoGPT", "UCF FVD ours"] == ""
    assert list(cells.columns[cells.columns.str.startswith("Taichi")]) == ["Taichi FVD paper"]
    assert cells.loc["Latte-XL", ["Verdict", "Origin"]].tolist() == ["not comparable", "run"]
    assert cells.loc["PVDM", ["Verdict", "Origin"]].tolist() == ["not run", "quoted"]
    assert cells.loc["Latte-XL, guided", ["Verdict", "Origin"]].tolist() == ["", "run"]
    markdown, latex = render.to_markdown(shown), render.to_latex(shown)
    assert "over 3 seeds" in markdown
    assert "UCF FVD: ours is FVD on `ucf` (moving digits), protocol `ci_clips`: 60 clips of 4 frames" in markdown
    assert "60 clips of 4 frames, each frame as an image, against the test split at stride 1" in markdown
    assert "Taichi FVD: not measured" in markdown
    assert "FaceForensics" in markdown
    assert "MoCoGAN-HD (Taichi FVD: looks like DIGAN's number); PVDM (Latte's re-run; disputed" in markdown
    assert "LVDM (other strides and splits); Latte-XL (Sky FVD, Taichi FVD, UCF FVD: released weights" in markdown
    assert not [column for column in cells if "Frame" in column and "control" in column]  # those are in the CSV
    assert latex.count("\\\\") == 1 + 13
    assert "−" not in latex.split("\\begin")[1]


def test_one_seed_shows_its_standard_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = scored(params.load(CI))
    shown = page(experiment)
    cells = shown.cells.set_index("Method")
    assert cells.loc["Latte-XL", "Sky FVD ours"] == "50.00 ± 3.00"
    assert cells.loc["Neural-RDM", "Sky FVD − control"] == "−1.000"
    assert "± is the standard error" in shown.notes[0]
    assert pd.isna(build_table2(experiment, PUBLISHED).set_index("method").loc["Latte-XL", "ucf101_fvd_spread"])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s["recipe"]["parameters"]["score"].update(reference="0"), "made with other parameters"),
        (lambda s: s["recipe"]["parameters"].update(seed=7), "made with other parameters"),
        (lambda s: s["recipe"]["inputs"].update(samples="0" * 64), "is the score of earlier samples"),
        (lambda s: s["values"]["fvd"].pop("standard_error"), "is damaged"),
    ],
)
def test_scores_of_another_kind_are_refused(three, edit, message):
    path = paths.score("ci-ucf-rdm-s1", "clips-guided", "ci_clips")
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match=f"{message}.*rdm score ci-ucf-rdm-s1"):
        build_table2(three, PUBLISHED)


def test_a_floor_of_another_protocol_is_refused(three):
    path, other = paths.floor("ucf", "ci_frames"), paths.floor("ucf", "ci_clips")
    path.write_bytes(other.read_bytes())
    with pytest.raises(ArtefactError, match="made with other parameters; run `rdm score floor-ucf-frames`"):
        build_table2(three, PUBLISHED)
    path.unlink()
    with pytest.raises(ArtefactError, match="not there yet; run `rdm score floor-ucf-frames`"):
        build_table2(three, PUBLISHED)


def test_a_score_file_without_the_metric(three):
    write_floor(three, "ucf-frames", {"fid": (0.4, 0.05)})
    with pytest.raises(UsageError, match="score.ucf-frames gives no 'identity'; choose one of: fid"):
        build_table2(three, PUBLISHED)


def test_published_clips_are_a_row(write_params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clips = np.random.default_rng(0).integers(0, 256, (3, 4, 16, 16, 1), np.uint8)
    np.save("theirs.npy", clips)

    def change(content):
        content["published"] = {"theirs": {"data": "ucf", "path": "theirs.npy"}}
        content["tables"]["table2"]["rows"].append({"row": "PVDM", "cells": [{"samples": "theirs"}]})

    experiment = scored(params.load(write_params(change)))
    write_published(experiment, "theirs", "ucf-clips", {"fvd": (33.0, 2.0), "is": (3.0, 0.2)})
    write_published(experiment, "theirs", "ucf-frames", {"fid": (5.0, 0.5), "identity": (0.5, 0.1)})
    table = build_table2(experiment, PUBLISHED).set_index("method")
    row = table.loc["PVDM"]
    assert (row["ucf101_fvd_ours"], row["frame_fid_ours"], row["frame_is_ours"]) == (33.0, 5.0, 3.0)
    assert (row["ucf101_fvd_origin"], row["ucf101_fvd_standard_error"]) == ("samples", 2.0)
    assert row["skytimelapse_fvd_origin"] == "quoted"
    assert pd.isna(row["ucf101_fvd_sampler"])
    assert "PVDM: ungated control" not in table.index
    np.save("theirs.npy", clips[:2])
    with pytest.raises(ArtefactError, match="is the score of earlier samples; run `rdm score theirs`"):
        build_table2(experiment, PUBLISHED)


def test_an_experiment_without_videos_has_no_table2(write_params):
    experiment = params.load(write_params(lambda content: content["tables"].pop("table2")))
    with pytest.raises(UsageError, match="'ci' has no videos; describe tables.table2"):
        stage.run(experiment, PUBLISHED, "table2")


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """One seed, with clips, of each system's own brightness, and scores."""
    monkeypatch.chdir(tmp_path)
    experiment = params.load(CI)
    for number, system in enumerate(experiment.shown_systems("table2")):
        for sampler in experiment.samplers_of(system):
            clips = np.full((3, 4, 16, 16, 1), 30 * number, np.uint8)
            write_sample(experiment, f"ci-{system}-s0", sampler, clips)
    return scored(experiment)


def test_rebuilding_gives_the_same_bytes(whole):
    written = stage.run(whole, PUBLISHED, "table2")
    tables = [f"table2.{suffix}" for suffix in ("csv", "md", "tex", "html")]
    runs = ["table2-runs.csv", "table2-runs.html"]
    assert [path.name for path in written] == [*tables, *runs, "clips.png", "moving-clips.png"]
    first = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in stage.run(whole, PUBLISHED, "table2")] == first
    rows = stage.rows_as_json(written[0])
    assert rows[8]["method"] == "Latte-XL"
    assert rows[8]["ucf101_fvd_ours"] == 90.0
    assert rows[0]["ucf101_fvd_ours"] is None


def test_the_picture_shows_baseline_control_and_gated(whole):
    *_, still, moving = stage.run(whole, PUBLISHED, "table2")
    order = whole.shown_systems("table2")
    for picture in (still, moving):
        shown = set(np.unique((imread(picture)[..., 0] * 255).round().astype(int)))
        for system in ("sky-latte", "sky-rdm", "sky-rdm-control", "ucf-latte", "ucf-rdm", "ucf-rdm-control"):
            assert 30 * order.index(system) in shown, (picture, system)


def test_the_moving_picture_shows_frame_after_frame(write_params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = params.load(CI)
    clips = np.zeros((3, 4, 16, 16, 1), np.uint8) + np.array([40, 90, 140, 190], np.uint8)[:, None, None, None]
    for system in experiment.shown_systems("table2"):
        for sampler in experiment.samplers_of(system):
            write_sample(experiment, f"ci-{system}-s0", sampler, clips)
    _, moving = draw_clips(experiment, paths.figure("clips"), paths.figure("moving-clips"))
    with Image.open(moving) as film:
        assert film.n_frames == 4
        for number, grey in enumerate((40, 90, 140, 190)):
            film.seek(number)
            shown = np.asarray(film.convert("L"))
            assert {level for level in (40, 90, 140, 190) if (shown == level).sum() > 1000} == {grey}


def test_the_picture_is_of_a_seed_that_all_have(write_params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def change(content):
        content["seeds"] = [0, 1]
        content["train"]["baselines"]["ucf-frames"]["seeds"] = content["train"]["baselines"]["ucf-latte"]["seeds"] = [1]

    experiment = params.load(write_params(change))
    for system in experiment.shown_systems("table2"):
        for sampler in experiment.samplers_of(system):
            write_sample(experiment, f"ci-{system}-s1", sampler, np.zeros((2, 4, 16, 16, 1), np.uint8))
    pictures = paths.figure("clips"), paths.figure("moving-clips")
    assert all(path.is_file() for path in draw_clips(experiment, *pictures))
    with pytest.raises(UsageError, match="sky-rdm, ucf-rdm have no seed in common"):
        draw_clips(with_seeds(experiment, [0]), *pictures)


def test_a_baseline_of_another_sampler_is_left_out(write_params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def change(content):
        content["tables"]["table2"]["rows"].pop()  # the only row of ucf-latte by the sampler of ucf-rdm

    experiment = params.load(write_params(change))
    for system in experiment.shown_systems("table2"):
        for sampler in experiment.samplers_of(system):
            write_sample(experiment, f"ci-{system}-s0", sampler, np.zeros((2, 4, 16, 16, 1), np.uint8))
    still, _ = draw_clips(experiment, paths.figure("clips"), paths.figure("moving-clips"))
    height = imread(still).shape[0]
    assert height == pytest.approx(110 * (0.5 * 5 + 0.8), abs=1)  # five lines, not six
