"""`snakemake --report`: one file that holds what was made here, and loads nothing."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from rdm import paths
from rdm.provenance import graph
from tests.conftest import CI, FIGURES, ROOT, snakemake

REPORT = "results/report.html"


class Loads(HTMLParser):
    """What a browser would fetch for a page: (tag, address)."""

    def __init__(self, text):
        super().__init__()
        self.found, self.styles, self.inside = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.inside = tag
        wanted = ("src", "srcset", "data", "poster") if tag == "a" else ("src", "srcset", "data", "poster", "href")
        self.found += [(tag, value) for name, value in attributes if name in wanted and value]

    def handle_data(self, data):
        if self.inside == "style":
            self.styles += re.findall(r"@import[^;]*|url\(\s*['\"]?(?!data:)[^)]*", data)


def variables(page):
    """What the report's scripts show: results, categories, captions, runtimes."""
    found = re.findall(r'<script id="[\w-]+">\s*var (\w+) = (.*?);\s*</script>', page, re.DOTALL)
    return {name: json.loads(value) for name, value in found}


def content(entry):
    """The bytes of a result."""
    head, _, data = entry["data_uri"].partition(",")
    assert head.endswith(";base64")
    return base64.b64decode(data)


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory):
    """The finished experiment, with the gates, the losses and what can be said of the claims, and its report."""
    folder = tmp_path_factory.mktemp("report") / "copy"
    shutil.copytree(finished, folder, symlinks=True)
    snakemake(folder, *map(str, map(paths.figure, ("gates", "losses"))), "--cores", "2")
    subprocess.run(["rdm", "claims", "--params", CI], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    snakemake(folder, "--report", REPORT)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return (folder / REPORT).read_text()


def test_it_loads_nothing(page):
    """Neither the page itself nor a page in it."""
    pages = [content(entry).decode() for path, entry in variables(page)["results"].items() if path.endswith(".html")]
    assert len(pages) == 5
    for text in (page, *pages):
        loads = Loads(text)
        assert loads.styles == []
        assert [address for _, address in loads.found if not address.startswith("data:")] == []


def test_everything_is_in_its_place(folder, page):
    """All that was made here, byte by byte, with a caption; Figure 5, which was not, is left out."""
    found = variables(page)
    shown = {path: folder / path for path in found["results"]}
    categories = {name: [path for paths in groups.values() for path in paths] for name, groups in
                  found["categories"].items()}  # fmt: skip
    tables, runs = ([f"results/{t}{end}" for t in ("table1", "table2")] for end in ("", "-runs"))
    figures = (*FIGURES, "gates", "losses")
    assert {name: set(items) for name, items in categories.items()} == {
        "Claims": {"results/claims.csv", "results/claims.html"},
        "Tables": {f"{table}.{suffix}" for table in tables for suffix in ("csv", "html")},
        "Runs": {f"{table}.{suffix}" for table in runs for suffix in ("csv", "html")},
        "Figures": {f"results/figures/{figure}.{suffix}" for figure in figures for suffix in ("csv", "png")},
        "Samples": {f"results/figures/{picture}.png" for picture in ("samples", "clips", "moving-clips")},
    }
    for path, file in shown.items():
        entry = found["results"][path]
        assert content(entry) == file.read_bytes()
        assert "<p>" in entry["caption"], path
        assert "system-message" not in entry["caption"], path
        assert entry["labels"]["result"]
    assert "system-message" not in found["workflow_desc"]
    assert {"data", "train", "sample_ci_dit_s0", "score_dit", "table2", "figure6", "losses"} <= found["rules"].keys()


def test_runtimes_are_there(page):
    """Of every job, as Snakemake measured them."""
    timed = {row["rule"] for row in variables(page)["runtimes_spec"]["data"]["values"]}
    assert {"autoencoder", "train", "score_dit", "table1"} <= timed


def test_only_what_is_there_is_shown(folder, tmp_path):
    """After Table 1 alone: no error, and nothing of Table 2."""
    for name in ("results", ".snakemake"):
        shutil.copytree(folder / name, tmp_path / name, symlinks=True)
    for file in [*(tmp_path / "results").glob("table2*"), *(tmp_path / "results" / "figures").iterdir()]:
        if file.name != "samples.png":
            file.unlink()
    snakemake(tmp_path, "--report", REPORT)
    shown = variables((tmp_path / REPORT).read_text())["categories"]
    assert shown.keys() == {"Claims", "Tables", "Runs", "Samples"}
    (tmp_path / "results" / "table1.csv").unlink()
    done = snakemake(tmp_path, "--report", REPORT, check=False)
    assert done.returncode != 0
    assert "results/table1.csv" in done.stdout + done.stderr


def test_every_result_has_a_caption(experiment):
    """Of every table and figure that there can be."""
    captions = {file.stem for file in (ROOT / "workflow" / "report").glob("*.rst")}
    made = {path.stem for name in graph.targets(experiment) for path in graph.target(experiment, name).makes}
    assert captions == made | {"workflow"}
