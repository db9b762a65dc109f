"""The chain of a result as an RO-Crate 1.1 with the Process Run Crate profile 0.5: its metadata, not the big data.

Written by hand, since it is one file of JSON-LD. https://w3id.org/ro/crate/1.1, https://w3id.org/ro/wfrun/process/0.5
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rdm import paths
from rdm.errors import UsageError
from rdm.provenance.chain import Link, Step
from rdm.provenance.files import digest, file_digest, whole_folder

CRATE, PROFILE = "https://w3id.org/ro/crate/1.1", "https://w3id.org/ro/wfrun/process/0.5"
METADATA = "ro-crate-metadata.json"
LICENCE, PAPER = "https://spdx.org/licenses/MIT", "https://arxiv.org/abs/2406.13215"
FORMATS = {".json": "application/json", ".csv": "text/csv"}
YAML = "application/yaml"  # what a parameter file is, whatever its name
Entity = dict[str, Any]
DESCRIPTOR = {"@id": METADATA, "@type": "CreativeWork", "conformsTo": {"@id": CRATE}, "about": {"@id": "./"}}
TITLE = "Neural Residual Diffusion Models for Deep Scalable Vision Generation"
NAMED = [
    {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
    {"@id": LICENCE, "@type": "CreativeWork", "name": "MIT", "description": "of these metadata"},
    {"@id": PAPER, "@type": "ScholarlyArticle", "name": TITLE},
]


def write_crate(folder: Path, steps: list[Step], others: Iterable[Path]) -> Path:
    """Write a new folder with the metadata, score files, tables and manifests of a chain; returns it.

    steps: of the chain, the result first; others: more files that belong to it, such as the parameter file.
    Raises UsageError if the folder is there already.
    """
    if folder.exists():
        raise UsageError(f"{folder} is there already; name a new folder, or remove it.")
    with whole_folder(folder) as scratch:
        parts = [_copied(path, path.name, scratch) for path in others]
        for step in steps:
            parts += _result(step, scratch)
        foreign = [_foreign(name, link) for step in steps for name, link in step.inputs.items() if link.here != "step"]
        actions = [_action(step) for step in steps]
        entities = [_root(steps[0], parts, actions), *parts, *foreign, *actions, *map(_software, steps), *NAMED]
        content = {"@context": f"{CRATE}/context", "@graph": _distinct([DESCRIPTOR, *entities])}
        (scratch / METADATA).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def _root(result: Step, parts: list[Entity], actions: list[Entity]) -> Entity:
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Where {result.output} comes from",
        "description": "The chain from a result of rdm, which reproduces Neural-RDM, back to its data set: manifests, "
        "scores, parameters. Weights, samples and data are not in it; their sha256 are.",
        "datePublished": datetime.now(UTC).date().isoformat(),
        "license": {"@id": LICENCE},
        "conformsTo": {"@id": PROFILE},
        "citation": {"@id": PAPER},
        "hasPart": _references(part["@id"] for part in parts),
        "mentions": _references(action["@id"] for action in actions),
        "mainEntity": {"@id": _id(result)},
    }


def _id(step: Step) -> str:
    """Of a result in the crate: its path, and behind a folder's a slash."""
    return f"{step.output.as_posix()}/" if step.files else step.output.as_posix()


def _copied(path: Path, name: str, crate: Path) -> Entity:
    """A file, copied into the crate under this name."""
    (crate / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, crate / name)
    return {
        "@id": name,
        "@type": "File",
        "name": path.name,
        "encodingFormat": FORMATS.get(path.suffix, YAML),
        "contentSize": str(path.stat().st_size),
        "sha256": file_digest(path),
    }


def _result(step: Step, crate: Path) -> list[Entity]:
    """A score or table as it is; of a folder its manifest, which holds the sha256 of its files."""
    if not step.files:
        return [_copied(step.path, _id(step), crate)]
    manifest = _copied(step.path / paths.MANIFEST, _id(step) + paths.MANIFEST, crate)
    folder = {
        "@id": _id(step),
        "@type": "Dataset",
        "name": str(step.output),
        "description": f"{len(step.files)} files, which are not in this crate: its {paths.MANIFEST} has their sha256",
        "identifier": f"sha256:{step.sha256}",
        "hasPart": {"@id": manifest["@id"]},
    }
    if "licence" in step.facts:
        folder |= {"creditText": step.facts["origin"], "conditionsOfAccess": f"licence: {step.facts['licence']}"}
    return [folder, manifest]


def _foreign(name: str, link: Link) -> Entity:
    """An input that is no step: a file or folder of somebody else's, or one that is not here."""
    return {
        "@id": f"#sha256-{link.sha256}",
        "@type": "CreativeWork",
        "name": str(link.path or name),
        "description": f"the {name} that a step read; it is not in this crate",
        "identifier": f"sha256:{link.sha256}",
    }


def _action(step: Step) -> Entity:
    """One run of a verb: what it read, and what it made."""
    made, recipe = step.environment, step.recipe
    known = {
        "parameters sha256": digest(recipe["parameters"]) if recipe else None,
        "code sha256": recipe.get("code"),
        "commit": made.get("commit"),
        "lock sha256": made.get("lock"),
        "device": made.get("device"),
    }
    action = {
        "@id": f"#run-{step.output.as_posix()}",
        "@type": "CreateAction",
        "name": step.command,
        "description": ", ".join(f"{what} {value or 'not recorded'}" for what, value in known.items()),
        "instrument": {"@id": _software(step)["@id"]},
        "object": _references(_read(link) for link in step.inputs.values()),
        "result": {"@id": _id(step)},
    }
    if "finished" in made and step.seconds is not None:
        end = datetime.fromisoformat(made["finished"])
        start = end - timedelta(seconds=round(step.seconds))
        action |= {"startTime": start.isoformat(), "endTime": end.isoformat()}
    return action


def _read(link: Link) -> str:
    """The entity that an input is."""
    if link.here != "step" or link.path is None:
        return f"#sha256-{link.sha256}"
    return link.path.as_posix() if link.path.suffix else f"{link.path.as_posix()}/"


def _software(step: Step) -> Entity:
    """The rdm that ran: its commit, and what it ran with."""
    versions = step.environment.get("versions", {})
    commit = step.environment.get("commit")
    return {
        "@id": f"#rdm-{digest([commit, versions])[:12]}",
        "@type": "SoftwareApplication",
        "name": "rdm",
        "softwareVersion": f"{versions.get('rdm', 'not recorded')}, commit {commit or 'not recorded'}",
        "softwareRequirements": [f"{name} {version}" for name, version in versions.items() if name != "rdm"],
    }


def _references(names: Iterable[str]) -> list[Entity] | Entity:
    """Each entity of these names once; a single one is no list, as RO-Crate 1.1 would have it."""
    found = [{"@id": name} for name in dict.fromkeys(names)]
    return found[0] if len(found) == 1 else found


def _distinct(entities: Iterable[Entity]) -> list[Entity]:
    """Each entity once: several steps name the same."""
    return list({entity["@id"]: entity for entity in entities}.values())
