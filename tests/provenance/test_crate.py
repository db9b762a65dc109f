"""An exported chain is an RO-Crate 1.1 with the Process Run Crate profile 0.5.

What both specifications say an RO-Crate MUST have is checked here, since their validator (roc-validator) fetches the
JSON-LD context from the network and pins an older rich.
"""

import datetime
import hashlib
import json
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest

from rdm import paths
from tests.conftest import ROOT
from tests.provenance.by_hand import make_chain
from tests.test_cli import fails, rdm

SCORED = paths.score("ci-dit-s0", "plain", "ci")
TERMS = {  # of RO-Crate's context, as far as they are used: any other would be no linked data
    *("@id", "@type", "about", "citation", "conditionsOfAccess", "conformsTo", "contentSize", "creditText"),
    *("datePublished", "description", "encodingFormat", "endTime", "hasPart", "identifier", "instrument", "license"),
    *("mainEntity", "mentions", "name", "object", "result", "sha256", "softwareRequirements", "softwareVersion"),
    *("startTime", "version"),
}


@pytest.fixture
def chain(tmp_path, monkeypatch, experiment):
    monkeypatch.chdir(tmp_path)
    make_chain(experiment)


def export(result, *options, **named):
    done = rdm("explain", str(result), "--ro-crate", "crate", *options, **named)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == "crate"
    return Path("crate")


def check_crate(folder):
    """What an RO-Crate must be; returns its entities by @id."""
    content = json.loads((folder / "ro-crate-metadata.json").read_text())
    assert content.keys() == {"@context", "@graph"}
    assert content["@context"] == "https://w3id.org/ro/crate/1.1/context"
    graph = {entity["@id"]: entity for entity in content["@graph"]}
    assert len(graph) == len(content["@graph"])
    for entity in content["@graph"]:
        assert isinstance(entity["@type"], str)
        assert set(entity) <= TERMS, set(entity) - TERMS
        for value in (value for values in entity.values() for value in several(values)):
            assert isinstance(value, str) or value.keys() == {"@id"}, "entities must not be nested"
            assert (
                isinstance(value, str) or value["@id"] in graph or value["@id"].startswith("https://w3id.org/ro/crate")
            )
    descriptor, root = graph["ro-crate-metadata.json"], graph["./"]
    assert descriptor["@type"] == "CreativeWork"
    assert (descriptor["conformsTo"], descriptor["about"]) == ({"@id": "https://w3id.org/ro/crate/1.1"}, {"@id": "./"})
    assert root["@type"] == "Dataset"
    assert root["name"]
    assert root["description"]
    assert graph[root["license"]["@id"]]["name"]
    datetime.date.fromisoformat(root["datePublished"])
    parts = {part["@id"] for entity in graph.values() for part in several(entity.get("hasPart", []))}
    for name, entity in graph.items():
        if entity["@type"] == "File":
            file = folder / unquote(name)
            assert file.is_file(), name
            assert hashlib.sha256(file.read_bytes()).hexdigest() == entity["sha256"]
            assert entity["contentSize"] == str(file.stat().st_size)
        if entity["@type"] == "Dataset" and name != "./":
            assert name.endswith("/")
            assert (folder / unquote(name)).is_dir()
        if entity["@type"] in ("File", "Dataset") and name != "./":
            assert name in parts
            assert not name.startswith(("/", "."))
    check_process_run(graph, root)
    return graph


def several(value):
    """A single value is no list."""
    return value if isinstance(value, list) else [value]


def check_process_run(graph, root):
    profile = graph[root["conformsTo"]["@id"]]
    assert profile["@id"].startswith("https://w3id.org/ro/wfrun/process/")
    assert profile["@type"] == "CreativeWork"
    actions = [entity for entity in graph.values() if entity["@type"] == "CreateAction"]
    assert actions
    for action in actions:
        assert graph[action["instrument"]["@id"]]["@type"] == "SoftwareApplication"
        assert {"@id": action["@id"]} in several(root["mentions"])
        for entity in (*several(action["object"]), action["result"]):
            assert graph[entity["@id"]]["@type"] in ("File", "Dataset", "CreativeWork")


def test_a_whole_chain(chain):
    """Of each step an action, which made what the next one read; and the digest of the data set."""
    graph = check_crate(export(SCORED))
    actions = [entity for entity in graph.values() if entity["@type"] == "CreateAction"]
    assert len(actions) == 7
    made = {action["result"]["@id"] for action in actions}
    read = {entity["@id"] for action in actions for entity in several(action["object"])}
    assert made - read == {str(SCORED)}  # the result, of which nothing is made
    assert read <= made
    for action in actions:
        assert datetime.datetime.fromisoformat(action["startTime"]) <= datetime.datetime.fromisoformat(
            action["endTime"]
        )
        assert "not recorded" not in action["description"].replace("commit not recorded", "")
    data = graph["results/data/tiny/"]
    assert data["conditionsOfAccess"] == "licence: CC BY 4.0"
    assert data["identifier"].removeprefix("sha256:") in rdm("explain", str(SCORED)).stdout
    assert {"ci.yaml"} <= graph.keys()
    assert not list(Path("crate").rglob("*.safetensors"))


def test_a_chain_that_ends_before_its_data(chain):
    shutil.rmtree(paths.sample("ci-dit-s0", "plain"))
    graph = check_crate(export(SCORED))
    [ended] = [entity for name, entity in graph.items() if name.startswith("#sha256-")]
    assert ended["name"] == str(paths.sample("ci-dit-s0", "plain"))


def test_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table, digits = ROOT / "results" / "example" / "table1.csv", ROOT / "params" / "digits.yaml"
    graph = check_crate(export(table, "--row", "Neural-RDM-F", params=digits))
    [action] = [entity for entity in graph.values() if entity.get("result") == {"@id": "results/table1.csv"}]
    assert len(action["object"]) == 12  # three seeds, gated and control, from labels and from text
    quoted = ("--row", "BigGAN-deep", "--column", "FID paper")
    shutil.rmtree("crate")
    graph = check_crate(export(table, *quoted, params=digits))
    assert "params/published.csv" in str(graph)


@pytest.mark.parametrize("name", ["ours.yml", "ours"])
def test_a_parameter_file_may_have_any_name(chain, write_params, name):
    graph = check_crate(export(SCORED, params=write_params(name=name)))
    assert graph[name]["encodingFormat"] == "application/yaml"


def test_what_is_there_stays(chain):
    Path("crate").mkdir()
    fails(rdm("explain", str(SCORED), "--ro-crate", "crate"), 2, "crate is there already")
    assert not list(Path("crate").iterdir())
