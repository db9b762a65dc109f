"""From a result back to its data: the manifests and score files on the way, each held against what it was made from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rdm import paths
from rdm.errors import ArtefactError, UsageError, nearest
from rdm.params import Experiment
from rdm.provenance import graph
from rdm.provenance.files import file_digest
from rdm.provenance.manifest import read


@dataclass(frozen=True)
class Link:
    """An input of a step.

    path: where it lay; None if that was not recorded. sha256: of its content, as it was.
    here: whether it is a step of the chain; `file`, `folder` or `absent` if it is not: there the chain ends.
    """

    path: Path | None
    sha256: str
    here: str


@dataclass(frozen=True)
class Step:
    """A result and how it was made. output: its path in `results/`; path: where it is.

    command: the verb that makes it. sha256: of a folder, over those of its `files`.
    recipe, facts, seconds, environment: as recorded; empty or None where they were not.
    """

    output: Path
    path: Path
    command: str
    sha256: str
    recipe: dict[str, Any]
    inputs: dict[str, Link]
    files: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    environment: dict[str, Any] = field(default_factory=dict)


class Tree:
    """The results of one experiment below a folder: results/, or a copy of it such as results/example/."""

    def __init__(self, experiment: Experiment, root: Path) -> None:
        self.root, self.jobs = root, graph.makers(experiment)

    @classmethod
    def around(cls, experiment: Experiment, path: Path) -> tuple[Tree, Path]:
        """The tree that a result lies in, and the result's name in `results/`.

        Raises UsageError if it is none of the experiment's.
        """
        known = {output.relative_to(paths.RESULTS): output for output in graph.makers(experiment)}
        for start in range(len(path.parts)):
            output = known.get(Path(*path.parts[start:]))
            if output is not None:
                return cls(experiment, Path(*path.parts[:start])), output
        raise UsageError(
            f"{path} is no result of the experiment {experiment.name!r}, which --params names; "
            f"{nearest(str(path), map(str, graph.makers(experiment)))}"
        )

    def place(self, output: Path) -> Path:
        """Where a result is, by its name in `results/`."""
        return self.root / output.relative_to(paths.RESULTS)

    def walk(self, outputs: Iterable[Path]) -> list[Step]:
        """These results, and all that they were made from, each once, and before what it was made from.

        Raises ArtefactError if one of them is not there, damaged, or was made from another version of its input.
        """
        found: dict[Path, Step] = {}

        def follow(output: Path) -> Step:
            if output not in found:
                found[output] = step = self.step(output)
                for link in step.inputs.values():
                    if link.path is not None and link.here == "step":
                        self._check(step, output, link, follow(link.path).sha256)
                    elif link.path is not None and link.here == "file":
                        self._check(step, output, link, file_digest(link.path))
            return found[output]

        for output in outputs:
            follow(output)
        return list(found.values())

    def ends(self, steps: Iterable[Step]) -> list[tuple[str, str, str]]:
        """Where a chain ends before a data set: each input that is not here, its sha256, and the verb that makes it."""
        found = {}
        for step in steps:
            for name, link in step.inputs.items():
                if link.here == "absent":
                    command = self.jobs[link.path].command if link.path in self.jobs else ""
                    what = str(self.place(link.path) if link.path in self.jobs else link.path or f"{name} (not named)")
                    found[what, link.sha256] = command
        return [(what, sha256, command) for (what, sha256), command in found.items()]

    def step(self, output: Path) -> Step:
        """One result, verified. Raises ArtefactError if it is not there, or is not what its stage left."""
        return self._file(output) if output.suffix else self._folder(output)

    def _folder(self, output: Path) -> Step:
        folder, command = self.place(output), self.jobs[output].command
        artefact = read(folder, command)
        manifest = json.loads((folder / paths.MANIFEST).read_text(encoding="utf-8"))
        return Step(
            output,
            folder,
            command,
            artefact.digest,
            artefact.recipe,
            dict(self._links(artefact.recipe["inputs"], manifest.get("sources", {}))),
            manifest["files"],
            artefact.facts,
            manifest.get("seconds"),
            manifest.get("environment", {}),
        )

    def _file(self, output: Path) -> Step:
        """A score file; or a table, which records nothing of its own: see rdm.tables.origins."""
        file, command, note = self.place(output), self.jobs[output].command, self.place(paths.note(output))
        if not file.is_file():
            raise ArtefactError(f"{file} is not there yet; run `{command}` first.")
        sha256 = file_digest(file)
        made = _read_json(note) if note.is_file() else {}
        if made and made.get("sha256") != sha256:
            raise ArtefactError(
                f"{file} is not what `{command}` wrote here last (edited, or brought from elsewhere); run that again."
            )
        recipe, inputs, facts = {}, {}, {}
        if file.suffix == ".json":
            facts = _read_json(file)
            try:
                recipe = facts["recipe"]
                inputs = dict(self._links(recipe["inputs"], facts.get("sources", {})))
                facts["values"] = {
                    name: {**found, "value": float(found["value"])} for name, found in facts["values"].items()
                }
            except (KeyError, TypeError, ValueError, AttributeError):
                raise ArtefactError(f"{file} is damaged; run `{command}` again.") from None
        environment = {key: facts[key] for key in ("versions", "device") if key in facts} | made.get("environment", {})
        return Step(output, file, command, sha256, recipe, inputs, {}, facts, made.get("seconds"), environment)

    def _links(self, inputs: dict[str, str], sources: dict[str, str]) -> Iterator[tuple[str, Link]]:
        for name, sha256 in inputs.items():
            path = Path(sources[name]) if name in sources else None
            if path is None:
                here = "absent"
            elif path in self.jobs:
                here = "step" if (self.place(path) / paths.MANIFEST).is_file() else "absent"
            else:
                here = "folder" if path.is_dir() else "file" if path.is_file() else "absent"
            yield name, Link(path, sha256, here)

    def _check(self, step: Step, output: Path, link: Link, sha256: str) -> None:
        if sha256 != link.sha256:
            assert link.path is not None
            place = self.place(link.path) if link.here == "step" else link.path
            raise ArtefactError(
                f"{step.path} was made from another version of {place} (sha256 {link.sha256[:12]}, now "
                f"{sha256[:12]}); run `{self.jobs[output].command}`."
            )


def _read_json(file: Path) -> dict[str, Any]:
    """What stands in a file of ours. Raises ArtefactError if that is no JSON object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ArtefactError(f"{file} is damaged; remove it, and run the command that makes it again.")
    return content
