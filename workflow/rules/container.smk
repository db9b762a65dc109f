"""The image in which jobs run with --use-singularity."""

from rdm.containers import apptainer
from rdm.provenance.image import sif_file
from snakemake.settings.types import DeploymentMethod

CONTAINED = DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method
if CONTAINED and not apptainer.program():
    print(
        "Error: --use-singularity needs apptainer or singularity on PATH, and neither is there; install one of them"
        " and run `rdm container build`, or leave --use-singularity out.",
        file=sys.stderr,
    )
    sys.exit(1)

try:
    IMAGE = sif_file(Path(workflow.basedir))
except RdmError as error:
    print(f"Error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
if IMAGE.is_relative_to(Path.cwd()):
    # its path is recorded with every result, and a checkout may move
    IMAGE = IMAGE.relative_to(Path.cwd())
# for what everything else follows from; a younger image re-runs nothing
IMAGE_INPUT = [ancient(str(IMAGE))] if CONTAINED else []
if CONTAINED:
    os.environ.update(apptainer.job_environment(Path(workflow.basedir), PARAMS.parent))


onstart:
    planned = {job.rule.name for job in workflow.dag.needrun_jobs()}
    if CONTAINED and not IMAGE.exists() and "container" not in planned:
        raise WorkflowError(
            f"{IMAGE} is not there; run `rdm container build` first."
        )


container: str(IMAGE)


rule container:
    output:
        str(IMAGE),
    log:
        "logs/container.log",
    localrule: True
    handover: True  # it uses all cores, and all others wait for it
    container:
        None
    message:
        "build the image of this lock: it takes the network, and ten minutes"
    shell:
        "rdm container build > {log} 2>&1"
