"""The files beside the code: they agree with the package, and with each other."""

import importlib.util
import re
import sys
import tomllib

import yaml

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_third_party_licences_are_those_of_the_packages_lists(monkeypatch):
    """Data sets and weights from the code that downloads them, packages from their own metadata."""
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("third_party", ROOT / "workflow" / "scripts" / "third_party.py")
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "third_party", script)
    spec.loader.exec_module(script)
    text = (ROOT / "THIRD_PARTY.md").read_text()
    assert script.text() == text
    marked = set(re.findall(r"^\| ([\w-]+) .*\*\*NC\*\*", text, re.MULTILINE))
    assert marked == {"imagenet", "ucf101", "dit-xl-2-256"}


def test_the_licence_is_one():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["license"] == citation["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


def test_the_citation_is_whole():
    """What Citation File Format 1.2.0 requires; and the version, and the paper."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"]
    assert citation["title"]
    assert citation["authors"] == [{"name": "the Neural-RDM reproduction authors"}]
    assert citation["version"] == PROJECT["version"]
    [paper] = citation["references"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert paper["identifiers"] == [{"type": "other", "value": "arXiv:2406.13215"}]
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[(?:Unreleased|{re.escape(PROJECT['version'])})\]", changes, re.MULTILINE)


def test_the_catalog_knows_its_keys():
    """Those that the Snakemake workflow catalog reads."""
    content = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())
    assert content.keys() == {"usage"}
    assert content["usage"].keys() == {"mandatory-flags", "software-stack-deployment"}
    assert content["usage"]["mandatory-flags"].keys() == {"desc", "flags"}
    assert content["usage"]["software-stack-deployment"] == {
        "conda": False,
        "apptainer": True,
        "apptainer+conda": False,
        "report": True,
    }
