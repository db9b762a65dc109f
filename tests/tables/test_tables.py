"""The table: the paper's rows in its order, our numbers where something ran, and nothing made up."""

import json
import statistics

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from rdm import params, paths
from rdm.errors import ArtefactError
from rdm.tables import pages, render, stage
from rdm.tables.build import build_table1, build_table2, verdict
from rdm.tables.figures import draw_samples
from rdm.tables.measured import Measured
from rdm.tables.published import read_published
from tests.conftest import ROOT, altered
from tests.tables.handmade import SPOILT, write_floor, write_sample, write_scores

PUBLISHED = ROOT / "params" / "published.csv"
EXAMPLE = ROOT / "results" / "example"
PAPER_ROWS = [
    *("BigGAN-deep", "StyleGAN-XL", "ADM", "ADM-U", "ADM-G", "LDM-8", "LDM-8-G", "LDM-4", "LDM-4-G"),
    *("DiT-XL/2", "DiT-XL/2-G", "Latte-XL", "Neural-RDM-U", "Neural-RDM-F"),
]

FLOOR = "real images of the other split (floor)"


@pytest.fixture
def table(workspace, experiment):
    return build_table1(experiment, PUBLISHED).set_index("method")


def score_of(run, sampler="plain"):
    values = json.loads(paths.score(run, sampler, "ci").read_text())["values"]
    return {name: estimate["value"] for name, estimate in values.items()}


def test_the_papers_rows_come_first_in_its_order(table):
    assert list(table.index[:14]) == PAPER_ROWS
    assert table.loc["Neural-RDM-F", "c2i_fid_paper"] == 2.12
    assert table.loc["LDM-8", "c2i_sfid_paper"] is None or pd.isna(table.loc["LDM-8", "c2i_sfid_paper"])
    assert list(table.index[14:]) == [
        "Neural-RDM-U: ungated control",
        "Neural-RDM-F: ungated control",
        FLOOR,
    ]


def test_cells_are_the_scores(table):
    assert table.loc["DiT-XL/2", "c2i_fid_ours"] == score_of("ci-dit-s0")["fid"]
    assert table.loc["DiT-XL/2-G", "c2i_is_ours"] == score_of("ci-dit-s0", "guided")["is"]
    assert table.loc["Neural-RDM-F", "fid_minus_control"] == pytest.approx(
        score_of("ci-rdm-f-s0")["fid"] - score_of("ci-rdm-f-control-s0")["fid"]
    )


def test_text_to_image_has_columns_of_its_own(table):
    assert table.loc["LDM-4", "t2i_fid_ours"] == score_of("ci-ldm4-text-s0")["fid"]
    assert table.loc["DiT-XL/2-G", "t2i_sfid_ours"] == score_of("ci-dit-text-s0", "guided")["sfid"]
    assert table.loc["DiT-XL/2-G", "t2i_accuracy"] == score_of("ci-dit-text-s0", "guided")["accuracy"]
    assert table.loc["DiT-XL/2-G", "t2i_fid_paper"] == 3.53
    own, control = (score_of(f"ci-rdm-f-text{twin}-s0")["is"] for twin in ("", "-control"))
    assert table.loc["Neural-RDM-F", "t2i_is_ours"] == own
    assert table.loc["Neural-RDM-F: ungated control", "t2i_is_ours"] == control
    fids = (score_of(f"ci-rdm-u-text{twin}-s0")["fid"] for twin in ("", "-control"))
    assert table.loc["Neural-RDM-U", "t2i_fid_minus_control"] == pytest.approx(next(fids) - next(fids))
    assert table.loc["Neural-RDM-F", "t2i_fid_verdict"] == "not comparable"
    assert table.loc[FLOOR, "t2i_fid_ours"] == table.loc[FLOOR, "c2i_fid_ours"]
    for row in ("LDM-8", "Latte-XL"):
        assert pd.isna(table.loc[row, "t2i_fid_ours"])
        assert (table.loc[row, "t2i_fid_verdict"], table.loc[row, "t2i_fid_origin"]) == ("not run", "quoted")
    assert table.loc["ADM", "t2i_fid_origin"] == ""


def test_text_that_is_not_run_is_quoted(workspace, experiment):
    """And of all that is said of it, the remark stays that none of it is in an original paper."""
    rows = tuple(row.model_copy(update={"text": None}) for row in experiment.tables.table1.rows)
    table1 = experiment.tables.table1.model_copy(update={"rows": rows, "text_score": None})
    changed = altered(experiment, tables=experiment.tables.model_copy(update={"table1": table1}))
    heading, quoted = pages.page1(build_table1(changed, PUBLISHED), changed).appendix
    assert list(quoted.columns) == ["Method", "Text FID paper", "Text sFID paper", "Text IS paper"]
    assert "none of it is run here" in heading
    heading_of_ours, ours = pages.page1(build_table1(experiment, PUBLISHED), experiment).appendix
    assert len(ours) == len(quoted) + 3  # two controls and the floor
    assert {"Text FID ours", "Text obeyed", "Text FID − control"} <= set(ours.columns)
    assert "protocol `ci`: 360 images against the test split" in heading_of_ours
    for text in (heading, heading_of_ours):
        assert "none of its baselines' is in an original paper (reading R8)" in text


def test_what_was_not_run_is_empty(table):
    for row in ("ADM", "Latte-XL", "LDM-8"):
        assert pd.isna(table.loc[row, "c2i_fid_ours"])
        assert table.loc[row, "c2i_fid_verdict"] == "not run"
        assert table.loc[row, "c2i_fid_origin"] == "quoted"
    assert table.loc["DiT-XL/2", "c2i_fid_verdict"] == "not comparable"
    assert table.loc["DiT-XL/2", "c2i_fid_origin"] == "run"
    assert pd.isna(table.loc["DiT-XL/2", "c2i_fid_spread"])  # one seed has no spread
    assert table.loc["LDM-8", "c2i_sfid_verdict"] == ""  # the paper prints no value


def test_a_single_value_stands_with_its_standard_error(workspace, experiment):
    page = pages.page1(build_table1(experiment, PUBLISHED), experiment)
    cells = page.cells.set_index("Method")
    for row, path in (("DiT-XL/2", paths.score("ci-dit-s0", "plain", "ci")), (FLOOR, paths.floor("tiny", "ci"))):
        fid = json.loads(path.read_text())["values"]["fid"]
        assert cells.loc[row, "FID ours"] == f"{fid['value']:.3f} ± {fid['standard_error']:.3f}"
    assert "± is the standard error, which comes from the finite number of images" in page.notes[0]


def test_rebuilding_gives_the_same_bytes(workspace, experiment, finished):
    for path in stage.run(experiment, PUBLISHED, "table1"):
        assert (workspace / path).read_bytes() == (finished / path).read_bytes(), path


@pytest.mark.parametrize(
    ("name", "build", "page"),
    [("table1", build_table1, pages.page1), ("table2", build_table2, pages.page2)],
    ids=["table1", "table2"],
)
def test_the_examples_table_is_that_of_its_scores(tmp_path, monkeypatch, name, build, page):
    """Every character of it: from the values that lie beside it, under today's parameters."""
    monkeypatch.chdir(tmp_path)
    experiment = params.load(ROOT / "params" / "digits.yaml")

    def estimates(score, *parts):
        file = EXAMPLE.joinpath("score", *parts, f"{experiment.score[score].protocol}.json")
        values = json.loads(file.read_text())["values"]
        return {metric: (found["value"], found["standard_error"]) for metric, found in values.items()}

    for score in experiment.scores_in(name):
        dataset = experiment.score[score].data
        for system in experiment.shown_systems(name):
            if experiment.data_of(system) != dataset:
                continue
            runs = [paths.run_name("digits", system, seed) for seed in experiment.seeds_of(system)]
            for sampler in experiment.samplers_of(system):
                found = [estimates(score, run, sampler) for run in runs]
                metrics = {metric: [values[metric] for values in found] for metric in found[0]}
                write_scores(experiment, system, sampler, score, metrics)
        write_floor(experiment, score, estimates(score, "floor", dataset))
    table = build(experiment, PUBLISHED)
    shown = page(table, experiment)
    for suffix, text in (
        ("csv", render.to_csv(table)),
        ("md", render.to_markdown(shown)),
        ("tex", render.to_latex(shown)),
    ):
        assert text == (EXAMPLE / f"{name}.{suffix}").read_text(), suffix


def test_mean_spread_and_standard_error():
    measured = Measured((1.0, 2.0, 4.0), (2.0, 3.0, 6.0))
    assert measured.standard_error == pytest.approx(7 / 3)
    assert Measured((1.0,), (0.5,)).standard_error == 0.5
    assert measured.minus(measured).standard_error is None
    assert measured.mean == pytest.approx(7 / 3)
    assert measured.spread == pytest.approx(statistics.stdev([1, 2, 4]))
    assert Measured((1.0,)).spread is None
    assert measured.minus(Measured((1.0, 1.0, 1.0))).values == (0, 1, 3)


def test_verdicts():
    assert verdict(None, Measured((1.0,)), 0.05, True) == ""
    assert verdict(2.0, None, 0.05, True) == "not run"
    assert verdict(2.0, Measured((2.0,)), 0.05, False) == "not comparable"
    assert verdict(2.0, Measured((2.09,)), 0.05, True) == "reproduced"
    assert verdict(2.0, Measured((1.8,)), 0.05, True) == "differs"
    assert verdict(2.0, Measured((1.8,)), 0.15, True) == "reproduced"


@SPOILT
def test_scores_of_another_kind_are_refused(workspace, experiment, edit, message):
    path = paths.score("ci-dit-s0", "plain", "ci")
    score = json.loads(path.read_text())
    edit(score)
    path.write_text(json.dumps(score))
    with pytest.raises(ArtefactError, match=f"{message}.*rdm score ci-dit-s0"):
        build_table1(experiment, PUBLISHED)
    path.unlink()
    with pytest.raises(ArtefactError, match="not there yet; run `rdm score ci-dit-s0`"):
        build_table1(experiment, PUBLISHED)


def test_a_further_row_has_a_paper_rows_name_and_a_difference(workspace, experiment):
    row = experiment.tables.table1.rows[1].model_copy(update={"row": "DiT-XL/2, guidance 3"})
    table1 = experiment.tables.table1.model_copy(update={"rows": (row,)})
    tables = experiment.tables.model_copy(update={"table1": table1})
    table = build_table1(experiment.model_copy(update={"tables": tables}), PUBLISHED)
    assert table["method"].tolist()[14:-1] == ["DiT-XL/2, guidance 3"]


def test_published_numbers_are_the_papers():
    """Spot checks against the printed tables, and the number of cells."""
    images = {row.name: row for row in read_published(PUBLISHED, "table1")}
    videos = {row.name: row for row in read_published(PUBLISHED, "table2")}
    assert list(images) == PAPER_ROWS
    assert images["Neural-RDM-U"].values == {
        "c2i_fid": 3.47, "c2i_sfid": 5.08, "c2i_is": 256.55, "t2i_fid": 2.25, "t2i_sfid": 4.36, "t2i_is": 235.35
    }  # fmt: skip
    assert sum(len(row.values) for row in images.values()) == 65
    assert videos["Latte-XL"].values["ucf101_fvd"] == 477.97
    assert len(videos) == 10
    assert sum(len(row.values) for row in videos.values()) == 42
    origins = pd.read_csv(PUBLISHED)["origin"]
    assert not origins.isna().any()


def test_markdown_and_latex_say_what_the_numbers_are(workspace, experiment):
    table = build_table1(experiment, PUBLISHED)
    shown = pages.page1(table, experiment)
    markdown, latex = render.to_markdown(shown), render.to_latex(shown)
    assert "Not comparable" in markdown
    assert "protocol `ci`" in markdown
    assert markdown.count("\n| ") >= 14 + 3
    assert latex.count("\\\\") >= 14 + 3
    assert "\\toprule" in latex
    score = experiment.tables.table1.score
    protocols = {score: experiment.protocols[score].model_copy(update={"paper_scale": True})}
    paper_scale = experiment.model_copy(update={"protocols": experiment.protocols | protocols})
    assert "within 5 % of the paper's value" in render.to_markdown(pages.page1(table, paper_scale))


def test_signs_of_latex_are_escaped():
    cells = pd.DataFrame({"A_b −": ["50 % & #1 ± 2 of {a}", "−3 $^~\\"]})
    *_, head, _, first, second, _, _ = render.to_latex(render.Page(cells, [])).splitlines()
    assert head == r"A\_b $-$ \\"
    assert first == r"50 \% \& \#1 $\pm$ 2 of \{a\} \\"
    assert second.startswith(r"$-$3 \$\textasciicircum")


def test_the_picture_is_of_the_gated_systems_of_table1(experiment, tmp_path, monkeypatch):
    """Not of those of clips: they are sampled by none of its samplers."""
    monkeypatch.chdir(tmp_path)
    for number, system in enumerate(experiment.shown_systems("table1")):
        images = np.full((20, 16, 16, 1), 20 * number, np.uint8)
        write_sample(experiment, f"ci-{system}-s0", "plain", images, np.arange(20) % 10)
    [written] = draw_samples(experiment, paths.figure("samples"))
    picture = imread(written)
    assert set(range(0, 240, 20)) <= set(np.unique((picture[..., 0] * 255).round().astype(int)))
    assert picture.shape[0] == pytest.approx(110 * (0.5 * 12 + 0.6), abs=1)


def test_a_table_without_gated_rows_has_an_empty_picture(experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table1 = experiment.tables.table1.model_copy(update={"rows": ()})
    tables = experiment.tables.model_copy(update={"table1": table1})
    [written] = draw_samples(experiment.model_copy(update={"tables": tables}), paths.figure("samples"))
    assert written.is_file()


def test_rows_whose_labels_are_dealt_in_another_way_are_named():
    """At the paper's scale LDM's are balanced, as its authors', and the others' random, as DiT's."""
    [note] = [note for note in pages._notes1(params.load(ROOT / "params" / "paper.yaml")) if "Labels" in note]
    assert note == "Labels are dealt balanced in LDM-8, LDM-4, LDM-4-G, Neural-RDM-U; in the other rows random."
    assert not [note for note in pages._notes1(params.load(ROOT / "params" / "digits.yaml")) if "Labels" in note]
