"""`rdm pull`: what DVC brings, made known to Snakemake.

Snakemake goes by dates and by its own notes of the parameters and code that a file was made with. DVC brings neither,
but every artefact carries its recipe, from which the notes are written here.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from rdm import paths
from rdm.errors import RdmError, UsageError, nearest
from rdm.params import Experiment
from rdm.provenance import graph
from rdm.provenance.code import code_digest
from rdm.provenance.graph import Job, declared

CODE = paths.RESULTS / "code"  # what DVC's stages depend on: see workflow/scripts/code_digests.py


def run(experiment: Experiment, params_file: Path, remote: str | None, force: bool) -> tuple[int, list[str]]:
    """Pull, and write Snakemake's notes; returns how many jobs are done, and the commands that have to run again."""
    if not (Path("dvc.yaml").is_file() and Path("Snakefile").is_file()):
        raise UsageError("There is no dvc.yaml beside a Snakefile here; go to the repository's root.")
    if not Path("dvc.lock").is_file():
        raise UsageError("There is no dvc.lock here, so nothing is known to pull; check out a commit that has one.")
    jobs = list(graph.jobs(experiment, graph.targets(experiment)))
    changed = _pull({job.names[0] for job in jobs if not _has_recipes(job)}, remote, force)
    made = {path: False for job in jobs for path in job.makes}  # whether they are there, and as they would be made now
    outcome: dict[str, bool] = {}
    for job in jobs:
        if all(Path(declared(path)).is_file() for path in job.makes):
            same = _follows_recipe(job) if _has_recipes(job) else not changed & {*job.names, job.verb}
            outcome[job.command] = same and all(made.get(path, True) for path in job.reads)
            made |= dict.fromkeys(job.makes, outcome[job.command])
    there = {declared(path): current for path, current in made.items() if Path(declared(path)).is_file()}
    if there:
        _write_notes(params_file, there)
    return sum(outcome.values()), [command for command, current in outcome.items() if not current]


def _has_recipes(job: Job) -> bool:
    """Tables and figures have none."""
    return all(job.makes.values())


def _follows_recipe(job: Job) -> bool:
    """Whether the outputs were made with the present parameters and code; of a damaged one that is not known."""
    wanted = [(json.loads(json.dumps(parameters)), code_digest(job.verb)) for parameters in job.makes.values()]
    try:
        recipes = [json.loads(Path(declared(path)).read_text(encoding="utf-8"))["recipe"] for path in job.makes]
        return [(recipe["parameters"], recipe["code"]) for recipe in recipes] == wanted
    except (ValueError, KeyError, TypeError):
        return False  # the verb, which is named among those to run again, says what is wrong


def _pull(names: set[str], remote: str | None, force: bool) -> set[str]:
    """Fetch all that dvc.lock names; returns which of these stages DVC would run again, and verbs of other code."""
    from dvc.exceptions import CheckoutError, DownloadError, DvcException  # type: ignore[import-untyped]
    from dvc.repo import Repo  # type: ignore[import-untyped]

    for library, level in (("dvc", logging.ERROR), ("dvc_data", logging.CRITICAL), ("dvc_objects", logging.CRITICAL)):
        logging.getLogger(library).setLevel(level)  # what they warn of, file by file, is one error below
    try:
        repo = Repo()
    except DvcException as error:
        raise UsageError(f"dvc: {error}.") from None
    with repo:
        remotes = repo.config["remote"]
        if remote is not None and remote not in remotes:
            raise UsageError(f"There is no remote {remote!r}; {nearest(remote, remotes)}")
        source = remote or repo.config["core"].get("remote")
        stages = repo.index.stages
        try:
            repo.pull(targets=_recorded(stages), remote=remote, force=force)
        except (CheckoutError, DownloadError) as error:
            if source is None:
                raise UsageError("No remote is configured; name one: `dvc remote add --default NAME URL`.") from None
            lacking = getattr(error, "target_infos", None) or [f"{error.amount} files"]
            raise RdmError(
                f"The remote {source!r} did not bring all results ({lacking[0]} and others): run `dvc push` where they "
                "were made, or see with `dvc pull --verbose` whether it can be reached."
            ) from None
        except Exception as error:  # storage libraries have exceptions of their own
            raise RdmError(f"dvc pull: {' '.join(str(error).split())}") from None
        found = repo.status(targets=[stage.addressing for stage in stages if stage.name in names])
        changed = {address.rpartition(":")[2] for address in found}
    noted = {file.name: file.read_text().strip() for file in CODE.glob("*")}
    return changed | {verb for verb in ("tables", "figures") if noted.get(verb) != code_digest(verb)}


def _recorded(stages: list[Any]) -> list[str]:
    """DVC's names of the stages that dvc.lock knows; of a whole file its own, since DVC reads it for each."""
    names: list[str] = []
    by_file = attrgetter("relpath")
    for file, group in groupby(sorted(stages, key=by_file), by_file):
        own = list(group)
        known = [stage.addressing for stage in own if all(out.hash_info for out in stage.outs)]
        names += [file] if len(known) == len(own) else known
    return names


def _write_notes(params_file: Path, files: dict[str, bool]) -> None:
    """Date files alike, and note for Snakemake that they were made as its rules are now, or (False) otherwise."""
    now = time.time()
    for file in files:
        os.utime(file, (now, now))
    with planned(params_file, files) as workflow:
        notes = workflow.persistence
        jobs = [job for job in workflow.dag.jobs if files.keys() >= set(job.output)]
        for job in jobs:
            workflow.async_run(notes.finished(job))
        notes.deactivate_cache()
        for file in (file for job in jobs for file in job.output):
            note = notes.metadata(file)
            # in which container it was made is not known, nor whether its image was an input
            note.software_stack_hash = note.input = None
            if not files[file]:
                note.params = ["other parameters, inputs or code"]
            notes._write_record(file, note)


@contextmanager
def planned(params_file: Path, targets: Iterable[str]) -> Iterator[Any]:
    """Snakemake's workflow, with the jobs that lead to these files."""
    # no documented interface: the tests hold it to what Snakemake does
    from snakemake.api import SnakemakeApi  # type: ignore[import-untyped]
    from snakemake.settings import types as settings  # type: ignore[import-untyped]

    with SnakemakeApi(settings.OutputSettings(quiet={settings.Quietness.ALL})) as api:
        configuration = settings.ConfigSettings(configfiles=[params_file])
        rules = api.workflow(settings.ResourceSettings(cores=1), configuration, snakefile=Path("Snakefile"))
        rules.dag(settings.DAGSettings(targets=set(targets)))
        workflow = rules._workflow
        workflow.execution_settings = settings.ExecutionSettings()
        workflow.remote_execution_settings = settings.RemoteExecutionSettings()
        workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=False)
        workflow._build_dag()
        yield workflow
