"""`rdm explain`: the chain from a number, or any result, back to its data set, for people and for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rdm import paths
from rdm.errors import ArtefactError, UsageError
from rdm.params import Experiment
from rdm.provenance import graph
from rdm.provenance.card import card
from rdm.provenance.chain import Link, Step, Tree
from rdm.provenance.files import digest, file_digest
from rdm.tables.origins import Number, numbers


@dataclass(frozen=True)
class Explained:
    """A result with all that it was made from. numbers: of a table, those that were asked for, else none.

    ends: each input that is not here, where the chain ends: what it is, its sha256, and the verb that makes it.
    """

    numbers: list[Number]
    steps: list[Step]
    ends: list[tuple[str, str, str]]


def explain(
    experiment: Experiment, published: Path, result: Path, row: str | None = None, column: str | None = None
) -> Explained:
    """Follow a result back. published: the paper's numbers; row, column: of a table, as its readers see them.

    Raises UsageError for what is no result, row or column, ArtefactError where the chain is broken.
    """
    tree, output = Tree.around(experiment, result.parent if result.name == paths.MANIFEST else result)
    job = tree.jobs[output]
    if job.verb != "tables":
        if row or column:
            raise UsageError(f"{result} is no table; leave --row and --column out.")
        steps = tree.walk([output])
        return Explained([], steps, tree.ends(steps))
    [name] = job.names
    if output.stem != name:
        raise UsageError(f"{result} is made beside {name}, and not followed back; name {paths.table(name, 'csv')}.")
    found = numbers(experiment, published, name, tree, row, column)
    scores = list(dict.fromkeys(path for number in found for path in (*number.scores, *number.controls)))
    steps = tree.walk([paths.table(name, "csv"), *scores])
    own = {step.output: step.sha256 for step in steps}
    inputs = {str(number): Link(path, own[path], "step") for number, path in enumerate(scores, 1)}
    if not scores:
        inputs = {"published": Link(published, file_digest(published), "file")}
    return Explained(found, [replace(steps[0], inputs=inputs), *steps[1:]], tree.ends(steps))


def card_of(experiment: Experiment, run: str) -> str:
    """The model card of a run, with the scores that are there, each followed back to this very run."""
    system, _ = experiment.find_run(run)
    tree = Tree(experiment, paths.RESULTS)
    trained = tree.step(paths.train(run))
    scored = graph.score(experiment, system).makes if experiment.samplers_of(system) else {}
    there = [path for path in scored if path.is_relative_to(paths.RESULTS / "score" / run) and path.is_file()]
    steps = tree.walk(there)
    for what, _, command in tree.ends(steps):
        if Path(what).is_relative_to(paths.RESULTS / "sample"):
            raise ArtefactError(f"{what} is not there, and so nothing ties its scores to {run}; run `{command}`.")
    scores = [step.facts for step in steps if step.path in there]
    config = json.loads((trained.path / "config.json").read_text(encoding="utf-8"))
    weights = {name: sha256 for name, sha256 in trained.files.items() if name.endswith(".safetensors")}
    return card(run, trained.recipe, trained.facts, weights, config, scores)


def as_json(found: Explained) -> str:
    """All that is known, for programs."""
    return json.dumps(dataclasses.asdict(found), indent=1, default=str, ensure_ascii=False)


def render(found: Explained) -> str:
    """A block per step, the result first, the data sets last; then where the chain ends before them."""
    blocks = ["\n".join(_number(number) for number in found.numbers)] if found.numbers else []
    blocks += ["\n".join(_step(step)) for step in found.steps]
    if found.ends:
        width = max(len(what) for what, _, _ in found.ends)
        lines = [f"  {what:<{width}}  sha256 {sha256}  {command}".rstrip() for what, sha256, command in found.ends]
        blocks.append("\n".join(["The chain ends before the data set, since these are not here:", *lines]))
    return "\n\n".join(blocks)


def _number(number: Number) -> str:
    text = f"{number.row}, {number.column}: {number.value}"
    if not number.scores:
        return f"{text}, copied from the paper{f' ({number.remark})' if number.remark else ''}; origin: {number.origin}"
    values = ", ".join(f"{value:.6g}" for value in number.values)
    what = "difference to the ungated twin" if number.controls else "value"
    return f"{text}, the {what} of one score" if len(number.values) == 1 else f"{text}, the mean {what} of {values}"


def _step(step: Step) -> Iterator[str]:
    yield str(step.path)
    lines = [("sha256", step.sha256), ("made by", step.command), *_inputs(step), *_facts(step), *_made(step)]
    yield from (f"  {key:<10}  {text}" for key, text in lines)


def _inputs(step: Step) -> Iterator[tuple[str, str]]:
    names = max(map(len, step.inputs), default=0)
    places = max((len(str(link.path)) for link in step.inputs.values()), default=0)
    for number, (name, link) in enumerate(step.inputs.items()):
        place = link.path or "(place not recorded)"
        remark = {"absent": ", not here", "folder": ", files not hashed again"}.get(link.here, "")
        yield "" if number else "from", f"{name:<{names}}  {place!s:<{places}}  sha256 {link.sha256[:12]}{remark}"


def _facts(step: Step) -> Iterator[tuple[str, str]]:
    if step.recipe:
        yield "parameters", f"sha256 {digest(step.recipe['parameters'])}"
        yield "code", f"sha256 {step.recipe['code']}"
    if "values" in step.facts:
        values = step.facts["values"].items()
        yield "values", ", ".join(f"{metric} {estimate['value']:.6g}" for metric, estimate in values)
        return
    simple = {name: value for name, value in step.facts.items() if isinstance(value, str | int | float)}
    if simple:
        yield "facts", ", ".join(f"{name} {value}" for name, value in simple.items())
    if step.recipe.get("verb") == "data":
        for number, (name, sha256) in enumerate(step.files.items()):
            yield "" if number else "files", f"{sha256}  {name}"


def _made(step: Step) -> Iterator[tuple[str, str]]:
    made, lost = step.environment, "not recorded"
    yield "commit", made.get("commit") or lost
    yield "lock", f"sha256 {made['lock']}" if made.get("lock") else lost
    yield "versions", ", ".join(f"{name} {version}" for name, version in made.get("versions", {}).items()) or lost
    yield "device", made.get("device") or lost
    yield "seconds", lost if step.seconds is None else f"{step.seconds:g}, until {made.get('finished', lost)}"
