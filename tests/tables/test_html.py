"""Pages of the report: a table as HTML, and the runs behind one."""

import json
from html.parser import HTMLParser

import pandas as pd
import pytest

from rdm import paths
from rdm.errors import ArtefactError
from rdm.provenance.files import digest, file_digest
from rdm.tables.build import build_table1
from rdm.tables.render import Page, to_html
from rdm.tables.runs import COLUMNS, list_runs, page_of_runs
from tests.conftest import ROOT

PUBLISHED = ROOT / "params" / "published.csv"


class Parsed(HTMLParser):
    """What a browser makes of a page: text by tag, row by row, and everything that could load something."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.kinds, self.notes, self.loads, self.open = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.open += [tag] if tag != "meta" else []
        self.loads += [value for name, value in attributes if name in ("src", "href", "data", "srcset")]
        if tag == "tr":
            self.rows.append([])
            self.kinds.append(given.get("class"))
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "li":
            self.notes.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        elif "li" in self.open:
            self.notes[-1] += data.strip("\n")


def test_a_page_is_its_cells_and_notes():
    """Whatever they hold; nothing of it becomes markup, but for `code`."""
    cells = pd.DataFrame({"Method": ["<b>A & B</b>", "C"], "FID": ["1.0 ± 0.1", ""], "Origin": ["run", "quoted"]})
    appendix = pd.DataFrame({"Method": ["D"], "FID": ["2"]})
    text = to_html(Page(cells, ["Ours < theirs: `a_b`."], ("Quoted, from <one>: `c`.", appendix)), "Table <1>")
    page = Parsed(text)
    assert page.rows == [
        ["Method", "FID", "Origin"], ["<b>A & B</b>", "1.0 ± 0.1", "run"], ["C", "", "quoted"],
        ["Method", "FID"], ["D", "2"],
    ]  # fmt: skip
    assert page.kinds == [None, None, "quoted", None, None]
    assert page.notes == ["Ours < theirs: a_b."]
    assert "<code>a_b</code>" in text
    assert "−11\N{NO-BREAK SPACE}%" in to_html(Page(pd.DataFrame({"Effect": ["FID −0.2, −11 %"]}), []), "")
    assert "<h2>Quoted</h2>\n<p>From &lt;one&gt;: <code>c</code>.</p>\n<table>" in text
    assert "<h2>Quoted</h2>\n<table>" in to_html(Page(cells, [], ("Quoted:", appendix)), "")
    assert "<title>Table &lt;1&gt;</title>" in text
    assert page.loads == page.open == []


def test_the_runs_are_those_of_the_manifests(workspace, experiment):
    """Of Table 1, with text and without: a row per run and sampler, with what its manifests say."""
    table = list_runs(experiment, "table1")
    samplers = {"dit": ["guided", "plain"], "dit-text": ["guided", "plain"]}
    systems = [
        system
        for text in ("", "-text")
        for system in (
            f"ldm4{text}",
            f"dit{text}",
            *(f"rdm-{x}{text}{twin}" for x in "uf" for twin in ("", "-control")),
        )
    ]
    expected = {(f"ci-{system}-s0", sampler) for system in systems for sampler in samplers.get(system, ["plain"])}
    assert set(zip(table.run, table.sampler, strict=True)) == expected
    for row in table.itertuples():
        trained, drawn = (
            json.loads((folder / paths.MANIFEST).read_text())
            for folder in (paths.train(row.run), paths.sample(row.run, row.sampler))
        )
        facts = trained["facts"]
        assert (row.parameters, row.steps, row.device) == (facts["parameters"], 4, "cpu")
        assert (row.train_seconds, row.sample_seconds) == (trained["seconds"], drawn["seconds"])
        assert row.settings_sha256 == digest(trained["recipe"])
        assert row.weights_sha256 == drawn["recipe"]["inputs"]["train"]
        score = json.loads(paths.score(row.run, row.sampler, "ci").read_text())
        assert row.samples_sha256 == score["recipe"]["inputs"]["samples"]
    shown = page_of_runs(table).cells
    assert shown["Weights"].tolist() == [sha[:12] for sha in table.weights_sha256]
    assert shown["Parameters"][0] == f"{table.parameters[0]:,}"


def test_samples_of_earlier_weights_are_in_no_table(workspace, experiment):
    """Of the same parameters, but trained again, perhaps by other code: neither among the runs, nor with a score."""
    folder = paths.train("ci-dit-s0")
    log = folder / "log.jsonl"
    log.write_text(log.read_text() + "\n")
    manifest = json.loads((folder / paths.MANIFEST).read_text())
    manifest["files"][log.name] = file_digest(log)
    (folder / paths.MANIFEST).write_text(json.dumps(manifest))
    message = "was made from another version of .*ci-dit-s0; run `rdm sample ci-dit-s0 --overwrite`"
    for build in (lambda: list_runs(experiment, "table1"), lambda: build_table1(experiment, PUBLISHED)):
        with pytest.raises(ArtefactError, match=message):
            build()


def test_what_a_manifest_does_not_say_stays_empty():
    hashes = ["0" * 64, "1" * 64, "2" * 64]
    rows = [("a", "b", None, None, None, 1.0, 2.0, *hashes), ("c", "d", 1234567, 4, "cpu", 1.0, 2.0, *hashes)]
    shown = page_of_runs(pd.DataFrame(rows, columns=COLUMNS).convert_dtypes()).cells
    assert shown.loc[0].tolist() == ["a", "b", "", "", "", "1.0", "2.0", "0" * 12, "1" * 12, "2" * 12]
    assert shown.loc[1].tolist()[2:5] == ["1,234,567", "4", "cpu"]
    assert page_of_runs(pd.DataFrame([], columns=COLUMNS).convert_dtypes()).cells.empty
