"""The README shows what the last run gave, and names commands that exist."""

import re

from click.testing import CliRunner

from rdm import params
from rdm.cli import main
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
EXAMPLE = ROOT / "results" / "example"


def test_the_table_is_that_of_the_example():
    shown = re.search(r"<!-- table -->\n(.*?)<!-- /table -->", README, re.DOTALL).group(1)
    table = (EXAMPLE / "table1.md").read_text()
    assert shown.strip() == table.split("\nText-to-image")[0].strip()


def test_every_verb_and_run_it_names_exists():
    experiment = params.load(ROOT / "params" / "digits.yaml")
    for verb, argument in re.findall(r"^rdm (\w+) ?(digits-[\w-]+)?", README, re.MULTILINE):
        assert CliRunner().invoke(main, [verb, "--help"]).exit_code == 0, verb
        assert not argument or argument in experiment.runs
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text()


def test_every_path_it_names_exists():
    for path in re.findall(r"`((?:params|src|results/example|tests|workflow)/[\w./]*)`", README):
        assert (ROOT / path).exists(), path
