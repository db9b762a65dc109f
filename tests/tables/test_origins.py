"""`rdm explain` of the cells of a table: every number that its readers see, and where a quoted one is from."""

import json

import pytest

from rdm import params
from rdm.tables.origins import columns_of
from tests.conftest import ROOT
from tests.test_cli import rdm

EXAMPLE = ROOT / "results" / "example"


@pytest.mark.parametrize(
    ("name", "table"), [("digits", "table1"), ("digits", "table2"), ("fashion", "fashion/table1"), ("ci", "table2")]
)
def test_every_quoted_column_is_known(name, table):
    """Whether or not the experiment measures it: without text, or without one of the data sets."""
    lines = [
        line for line in (EXAMPLE / f"{table}.md").read_text().splitlines() if " paper |" in line and "Method" in line
    ]
    shown = {title.strip() for line in lines for title in line.split("|") if title.strip().endswith(" paper")}
    columns = columns_of(params.load(ROOT / "params" / f"{name}.yaml"), table.split("/")[-1])
    assert shown == {column.title for column in columns if column.quoted}


def test_a_quoted_number_says_where_the_paper_has_it_from(monkeypatch):
    monkeypatch.chdir(ROOT)
    asked = ("explain", "results/example/fashion/table1.csv", "--row", "LDM-8", "--column", "Text FID paper")
    fashion = ROOT / "params" / "fashion.yaml"
    done = rdm(*asked, params=fashion)
    assert done.exit_code == 0, done.output
    assert "LDM-8, Text FID paper: 16.64, copied from the paper (data set" in done.stdout
    assert "; origin: Neural-RDM authors; in no original paper" in done.stdout
    [number] = json.loads(rdm(*asked, "--json", params=fashion).stdout)["numbers"]
    assert number["origin"] == "Neural-RDM authors; in no original paper"
