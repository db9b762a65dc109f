"""The parameters of this run, and what the rules share."""

import shlex
import sys
from pathlib import Path

import yaml
from rdm import params, paths
from rdm.errors import RdmError
from rdm.params import dependencies
from rdm.provenance.code import code_digest


def parameter_file():
    """The one given by --configfile, or the default experiment."""
    given = [str(path) for path in workflow.configfiles]
    if len(given) > 1:
        raise WorkflowError(
            "Give one --configfile: a parameter file describes a whole experiment."
        )
    return Path(
        given[0] if given else Path(workflow.basedir) / "params" / "digits.yaml"
    ).resolve()


PARAMS = parameter_file()
if config and config != yaml.safe_load(PARAMS.read_text()):
    raise WorkflowError(
        "--config is not read here; copy a parameter file, edit it, and pass it with --configfile."
    )
try:
    EXPERIMENT = params.load(PARAMS)
except RdmError as error:
    print(f"Error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)

# every `rdm` below reads this file; its path is no parameter of a rule, so that a copy of it re-runs nothing
shell.prefix(f"export RDM_PARAMS={shlex.quote(str(PARAMS))}; ")

RUNS = EXPERIMENT.runs
SAMPLED = {
    run: EXPERIMENT.samplers_of(system)
    for run, (system, _) in RUNS.items()
    if EXPERIMENT.samplers_of(system)
}


wildcard_constraints:
    dataset="|".join(EXPERIMENT.data),
    autoencoder="|".join(EXPERIMENT.latents),
    run="|".join(RUNS),
    score="|".join(EXPERIMENT.score),
    samples="|".join(EXPERIMENT.published) or "none",
    table="table1|table2",


def manifest(folder):
    """The file that appears when an artefact's folder is whole."""
    return str(folder / paths.MANIFEST)


def latents_of(run):
    """The manifest of the latents that a run learns from."""
    name = EXPERIMENT.baseline(RUNS[run][0]).latents
    return manifest(paths.latents(EXPERIMENT.latents[name].data, name))


def runs_of(systems):
    """The runs of these systems, one per seed."""
    return [run for run, (system, _) in RUNS.items() if system in systems]
