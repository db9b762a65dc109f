"""The promised command in a real container, and what it does where there is no image or no Apptainer."""

import json
import os
import re
import shutil
import subprocess

import pytest

from rdm.provenance.files import file_digest
from rdm.provenance.image import sif_file
from tests.conftest import CI, ROOT
from tests.workflow.conftest import succeed
from tests.workflow.test_snakemake import digests

PROMISED = "snakemake --cores all --use-singularity results/table1.csv --configfile params/ci.yaml"
DATA = "results/data/tiny/manifest.json"
PROBE = """

rule probe:
    output:
        "probe.txt",
    shell:
        "sh -c 'env; nvidia-smi; ls $RDM_CACHE; head -n 1 $RDM_PARAMS; "
        "python -c \\"import rdm; print(rdm.__file__)\\"' > {output}"
"""


@pytest.fixture
def place(request, tmp_path):
    """A folder that Apptainer does not bind by itself, as it does /tmp: in pytest's cache, which git ignores."""
    folder = request.config.cache.mkdir("containers") / tmp_path.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def checkout(place):
    """A fresh clone, without an image."""
    succeed(["git", "clone", "--quiet", ROOT, place / "checkout"])
    return place / "checkout"


def program(folder, name, script):
    """A shell script of this name in a folder for PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return folder


def before_path(folder, environment):
    """The environment, with programs in this folder found first."""
    return environment | {"PATH": f"{folder}{os.pathsep}{environment['PATH']}"}


def snakemake(*arguments, folder, environment):
    """Run Snakemake; returns the finished process, whatever became of it."""
    command = ["snakemake", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.containers
def test_the_promised_command(apptainer, image, finished, checkout, tmp_path):
    """The same bytes as without a container; nothing is run on the host, where `rdm` fails."""
    shutil.copy(image, sif_file(checkout))
    environment = before_path(program(tmp_path / "host", "rdm", "exit 97"), apptainer)
    on_the_host = snakemake("--cores", "1", DATA, "--configfile", CI, folder=checkout, environment=environment)
    assert on_the_host.returncode != 0
    succeed(PROMISED, shell=True, cwd=checkout, env=environment)
    made, expected = digests(checkout), digests(finished)
    made = {name: digest for name, digest in made.items() if not name.startswith("example/")}  # committed
    assert {"table1.csv", "table1.md", "table1.tex", "figures/samples.png", "data/tiny/test_images.npy"} <= made.keys()
    assert made == {name: expected[name] for name in made}
    assert succeed(["git", "status", "--porcelain"], cwd=checkout).stdout == ""
    assert "Nothing to be done" in succeed(PROMISED, shell=True, cwd=checkout, env=environment).stderr
    moved = checkout.rename(checkout.with_name("moved"))
    assert "Nothing to be done" in succeed(PROMISED, shell=True, cwd=moved, env=environment).stderr


def test_results_of_the_host_are_accepted_as_the_docs_say(checkout, tmp_path):
    """Otherwise all that is there would be made anew: the image is an input more."""
    [option] = re.findall(r"`(--rerun-triggers [\w ]+)`", (ROOT / "docs" / "clusters.md").read_text())
    program(tmp_path / "host", "apptainer", "echo apptainer version 1.4.5")
    environment = before_path(tmp_path / "host", os.environ | {"PYTHONPATH": str(checkout / "src")})
    make = ["snakemake", DATA, "--cores", "1", "--configfile", "params/ci.yaml"]
    succeed(make, cwd=checkout, env=environment)
    sif_file(checkout).touch()
    plan = [*make, "--dry-run", "--printshellcmds", "--use-singularity"]
    assert "rdm data tiny" in succeed(plan, cwd=checkout, env=environment).stdout
    accepted = succeed([*plan, *option.split()], cwd=checkout, env=environment)
    assert "Nothing to be done" in accepted.stdout + accepted.stderr


@pytest.mark.containers
def test_a_missing_image_is_built(apptainer, build_args, checkout):
    environment = apptainer | {"RDM_BUILD_ARGS": build_args}
    arguments = ["--cores", "2", "--use-singularity", "--configfile", CI]
    done = snakemake(DATA, *arguments, folder=checkout, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sif_file(checkout).is_file()
    assert (checkout / DATA).is_file()
    sif_file(checkout).unlink()  # what is there needs it no more, and what follows cannot do without
    assert "Nothing to be done" in snakemake(DATA, *arguments, folder=checkout, environment=environment).stderr
    follows = "results/autoencoder/tiny/f4/manifest.json"
    done = snakemake(follows, *arguments, folder=checkout, environment=environment)
    assert done.returncode != 0
    assert "is not there; run `rdm container build` first." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.containers
def test_a_job_sees_the_checkout_the_parameters_and_the_gpus(apptainer, image, checkout, place, tmp_path):
    """From a working folder elsewhere, with parameters and weights in other places; nothing of the host's Python."""
    shutil.copy(image, sif_file(checkout))
    with (checkout / "Snakefile").open("a") as file:
        file.write(PROBE)
    for folder in ("work", "weights"):
        (place / folder).mkdir()
    (place / "weights" / "i3d.pt").touch()
    shutil.copytree(ROOT / "params", place / "params")
    host = program(tmp_path / "host", "nvidia-smi", "echo one GPU")
    environment = before_path(host, apptainer) | {
        "CUDA_VISIBLE_DEVICES": "0",
        "RDM_CACHE": str(place / "weights"),
        "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path),
        "PYTHONUSERBASE": str(tmp_path),
    }
    work = place / "work"
    where = ["--snakefile", checkout / "Snakefile", "--directory", work, "--configfile", place / "params" / "ci.yaml"]
    command = ["probe.txt", DATA, "--cores", "2", "--use-singularity", *where]
    done = snakemake(*command, folder=work, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (work / DATA).is_file()
    seen = (work / "probe.txt").read_text().splitlines()
    assert "one GPU" in seen
    assert "i3d.pt" in seen
    assert CI.read_text().splitlines()[0] in seen
    assert f"{checkout}/src/rdm/__init__.py" in seen
    assert f"APPTAINER_CONTAINER={sif_file(checkout)}" in seen
    assert not [line for line in seen if line.startswith("PYTHON") and str(tmp_path) in line]
    (work / "probe.txt").unlink()
    without = snakemake(*command, folder=work, environment=environment | {"CUDA_VISIBLE_DEVICES": ""})
    assert re.search("nvidia-smi: .*not found", without.stderr)


@pytest.mark.containers
def test_inspect_and_run(apptainer, image, build_args, tmp_path):
    source = image.parents[1] / "src"
    environment = apptainer | {"PYTHONPATH": str(source), "CUDA_VISIBLE_DEVICES": ""}
    shown = json.loads(succeed(["rdm", "container", "inspect", "--json"], env=environment).stdout)
    assert shown["image"] == str(image)
    assert f"BASE={shown['base']}" in build_args
    assert shown["lock"] == file_digest(ROOT / "requirements.lock")
    assert shown["belongs to the present lock"] is True
    assert shown["nvidia-driver"] == ">=580"
    script = "import os, rdm, sys; print(rdm.__file__, os.getcwd()); sys.exit(7)"
    run = ["rdm", "container", "run", "--"]
    done = subprocess.run([*run, "python", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (7, f"{source}/rdm/__init__.py {tmp_path}\n")
    assert succeed([*run, "rdm", "--version"], env=environment).stdout.startswith("rdm, version")
    written = subprocess.run([*run, "touch", "/opt/rdm/x"], env=environment, capture_output=True, text=True)
    assert "Read-only file system" in written.stderr


@pytest.mark.parametrize("there", [True, False])
def test_without_apptainer_the_error_is_one_sentence(checkout, tmp_path, there):
    if there:
        sif_file(checkout).touch()
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("snakemake", "bash", "which"):
        (programs / name).symlink_to(shutil.which(name))
    done = snakemake(*PROMISED.split()[1:], folder=checkout, environment=os.environ | {"PATH": str(programs)})
    assert done.returncode == 1
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert "install one of them and run `rdm container build`" in error
    assert "Traceback" not in done.stderr
