"""The parameters of this run, and what the rules share."""

import os
import shlex
import sys
from pathlib import Path

# the rdm of this checkout, here and in every job, wherever another may be installed
SOURCE = str(Path(workflow.basedir) / "src")
sys.path.insert(0, SOURCE)
BEFORE = os.environ.get("PYTHONPATH", SOURCE).split(os.pathsep)
os.environ.update(PYTHONPATH=os.pathsep.join(dict.fromkeys([SOURCE, *BEFORE])))

import yaml
from rdm import params, paths
from rdm.devices import visible_gpus
from rdm.errors import RdmError
from rdm.params import dependencies
from rdm.provenance import graph
from rdm.provenance.code import code_digest
from rdm.provenance.environment import commit
from rdm.provenance.files import file_digest


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


def enter_storage():
    """Where jobs share a volume, not a working folder: go to the local copies of the files that Snakemake stores."""
    settings = workflow.storage_settings
    if settings.default_storage_provider is None:
        return ""
    bucket = settings.default_storage_prefix.split("://", 1)[1]
    return f"cd {shlex.quote(str(settings.local_storage_prefix / settings.default_storage_provider / bucket))}; "


# every `rdm` below reads this file; its path is no parameter of a rule, so that a copy of it re-runs nothing
# exec: a shell in between would die of the signal that stops a job, and the job be killed while it saves its state
# RDM_COMMIT: for what is noted of a result's making, in a container without git
shell.prefix(
    f"export RDM_PARAMS={shlex.quote(str(PARAMS))} RDM_COMMIT={commit() or ''}; {enter_storage()}exec "
)

# jobs that use a GPU ask for one; here there are no more at a time than there are GPUs, and a cluster counts its own
HERE = workflow.resource_settings.nodes is None and not workflow.remote_exec
GPUS = visible_gpus() if HERE else 0
ON_GPU = {"gpu": 1} if EXPERIMENT.device != "cpu" and (GPUS or not HERE) else {}
if GPUS:
    workflow.global_resources.setdefault("gpu", GPUS)

SAMPLED = [name for name in EXPERIMENT.systems if EXPERIMENT.samplers_of(name)]


wildcard_constraints:
    dataset="|".join(EXPERIMENT.data),
    autoencoder="|".join(EXPERIMENT.latents),
    run="|".join(EXPERIMENT.runs),
    score="|".join(EXPERIMENT.score),
    samples="|".join(EXPERIMENT.published) or "none",
    part=r"\d+",
    table="table1|table2",


def files(outputs):
    """The files that appear when these artefacts, scores, tables or figures are whole."""
    return [graph.declared(path) for path in outputs]


def gpus_to_train(wildcards):
    """As many as the parameter file says; here, no more than there are."""
    system, _ = EXPERIMENT.find_run(wildcards.run)
    wanted = EXPERIMENT.gpus_of(system)
    return min(wanted, GPUS) if HERE else wanted


def gpus_option(wildcards, resources):
    """How many GPUs a job may use, for its command; a parameter made of resources is no reason to run again."""
    return f" --gpus {resources.gpu}" if resources.get("gpu") else ""


def parts_of(verb, name):
    """The files that say that the parts of a job are done; of a job in one piece, none."""
    parts = getattr(EXPERIMENT.parts, verb)
    return [
        str(paths.part_done(verb, name, part, parts))
        for part in range(1, parts + 1)
        if parts > 1
    ]
