"""Apptainer and an image to run in it: both real, and fetched from Debian where they are not there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPTS = Path(__file__).parent


@pytest.fixture(scope="session")
def apptainer(tmp_path_factory):
    """The environment of processes that shall find Apptainer and, in an image, the Python that runs these tests.

    An Apptainer or Singularity on PATH is taken as it is; otherwise Debian's is fetched into a folder of its own.
    """
    environment = dict(os.environ)
    if not (shutil.which("apptainer") or shutil.which("singularity")):
        needs_debian("Apptainer is not on PATH")
        folder = tmp_path_factory.mktemp("apptainer")
        succeed([SCRIPTS / "apptainer.sh", folder])
        environment["PATH"] = f"{folder / 'path'}{os.pathsep}{environment['PATH']}"
    environment["APPTAINER_BIND"] = ",".join(dict.fromkeys([sys.base_prefix, sys.prefix]))
    return environment


@pytest.fixture(scope="session")
def build_args(tmp_path_factory):
    """Build arguments, as RDM_BUILD_ARGS: a thin Debian, and the packages bound in from where these tests run."""
    if not (shutil.which("mmdebstrap") and shutil.which("mksquashfs")):
        needs_debian("mmdebstrap and squashfs-tools are not on PATH")
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        succeed(["apt-get", "-qq", "update"])
        succeed(["apt-get", "-qq", "install", "--no-install-recommends", "mmdebstrap", "squashfs-tools"], env=quiet)
    folder = tmp_path_factory.mktemp("debian") / "root"
    succeed([SCRIPTS / "rootfs.sh", folder])
    return f"BOOTSTRAP=localimage BASE={folder} VENV={sys.prefix}"


@pytest.fixture(scope="session")
def image(apptainer, build_args, tmp_path_factory):
    """The image of this checkout, by its own definition, on a thin Debian. Run it in the environment `apptainer`.

    It belongs to a copy of the checkout: in this one, its place is that of the real image.
    """
    checkout = tmp_path_factory.mktemp("image")
    shutil.copy(ROOT / "requirements.lock", checkout)
    for folder in ("containers", "src"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("*.sif"))
    environment = apptainer | {"PYTHONPATH": str(checkout / "src"), "RDM_BUILD_ARGS": build_args}
    return Path(succeed(["rdm", "container", "build"], env=environment, cwd=checkout).stdout.strip())


def succeed(command, **options):
    """Run a command; fails with all that it printed if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done


def needs_debian(why):
    """Fail unless packages can be installed here."""
    if not Path("/etc/debian_version").exists() or os.geteuid() != 0:
        pytest.fail(
            f'{why}, and only root of a Debian fetches it; pytest -m "not containers" leaves these tests out.',
            pytrace=False,
        )
