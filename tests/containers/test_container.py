"""`rdm container`: which engine, what it is asked to do, and what is said where it cannot be done."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest

from rdm.containers import apptainer, host, oci
from rdm.errors import RdmError, UsageError
from rdm.provenance import environment, image
from tests.conftest import ROOT
from tests.containers.daemon import Daemon, serve

DEFINITIONS = [image.DEFINITION, image.DOCKERFILE]
TAG = image.oci_tag(ROOT)


@pytest.fixture
def machine(tmp_path):
    """The environment of a machine with neither Apptainer nor Docker, and without a GPU."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "rdm").symlink_to(Path(sys.executable).parent / "rdm")
    quiet = ("DOCKER_", "APPTAINER", "SINGULARITY", "RDM_", "CUDA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(quiet)}
    return kept | {"PATH": str(programs), "CUDA_VISIBLE_DEVICES": "", "DOCKER_HOST": f"unix://{tmp_path}/none"}


@pytest.fixture
def daemon(machine):
    """A Docker daemon, which the machine can reach."""
    daemon = Daemon()
    with serve(daemon) as address:
        machine["DOCKER_HOST"] = address
        yield daemon


def pretend(machine, name, script):
    """Put a program of this name on the machine's PATH: a shell script."""
    program = Path(machine["PATH"]) / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def rdm(*arguments, env, code=0, **options):
    done = subprocess.run(["rdm", *arguments], env=env, capture_output=True, text=True, check=False, **options)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def checkout(folder):
    """The files that an image's name depends on."""
    for name in (image.LOCK, *DEFINITIONS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.mark.parametrize("name", [image.sif_file, image.oci_tag])
def test_a_name_follows_from_the_lock_and_its_definition(tmp_path, name):
    names = [name(checkout(tmp_path / "a")), name(checkout(tmp_path / "b"))]
    assert re.fullmatch(r"(.*/containers/rdm-|rdm:)[0-9a-f]{12}(\.sif)?", str(names[0]))
    assert Path(names[0]).name == Path(names[1]).name
    for changed in (image.LOCK, image.DEFINITION, image.DOCKERFILE):
        folder = checkout(tmp_path / changed.name)
        (folder / changed).write_text("other")
        mine = image.DEFINITION if name is image.sif_file else image.DOCKERFILE
        assert (Path(name(folder)).name != Path(names[0]).name) == (changed in (image.LOCK, mine))
    (tmp_path / "a" / image.LOCK).unlink()
    with pytest.raises(UsageError, match="requirements.lock is not there"):
        name(tmp_path / "a")


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: path.name)
def test_what_a_definition_says_is_what_the_lock_holds(definition):
    """CUDA by the toolkit whose libraries torch loads; CUDA 13 needs driver 580, by NVIDIA's compatibility table."""
    text, lock = (ROOT / definition).read_text(), (ROOT / image.LOCK).read_text()
    said = dict(re.findall(r'\b(torch|cuda|nvidia-driver)[ =]"?([\d.>=]+)', text))
    assert said["torch"] == re.search(r"^torch==(\S+)", lock, re.MULTILINE)[1] == version("torch").partition("+")[0]
    toolkit = re.search(r"^cuda-toolkit==(\d+\.\d+)", lock, re.MULTILINE)[1]
    assert said["cuda"] == toolkit
    assert said["nvidia-driver"] == {"12": ">=525", "13": ">=580"}[toolkit.partition(".")[0]]
    assert "driver 580 or newer" in text
    assert re.search(r"BASE=python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}\n", text)


def test_both_definitions_have_the_same_base_and_the_same_rdm():
    first, second = ((ROOT / definition).read_text() for definition in DEFINITIONS)
    assert re.search("BASE=(.+)", first)[1] == re.search("BASE=(.+)", second)[1]
    for line in re.search(r"<<'END'\n(.*)\nEND\n", first, re.DOTALL)[1].splitlines():
        assert line in second.replace('\\"', '"').replace("\\$", "$")


def test_docker_builds_from_two_files(machine, daemon):
    done = rdm("container", "build", "--build-arg", "BASE=debian:x", env=machine)
    assert done.stdout == f"{TAG}\n"
    assert "Step 1" in done.stderr
    assert daemon.build["t"] == TAG
    assert daemon.build["dockerfile"] == "containers/Dockerfile"
    lock = (ROOT / image.LOCK).read_bytes()
    assert daemon.build["buildargs"] == {"LOCK": hashlib.sha256(lock).hexdigest(), "BASE": "debian:x"}
    assert daemon.build["files"] == {
        "requirements.lock": lock,
        "containers/Dockerfile": (ROOT / image.DOCKERFILE).read_bytes(),
    }


def test_docker_builds_what_is_missing_only(machine, daemon):
    daemon.images[TAG] = {}
    assert rdm("container", "build", env=machine).stdout == f"{TAG}\n"
    assert daemon.build is None
    rdm("container", "build", "--overwrite", env=machine)
    assert daemon.build is not None


def test_a_failed_build_says_why(machine, daemon):
    daemon.build_error = "pip returned 1"
    done = rdm("container", "build", env=machine, code=1)
    assert f"Error: {TAG} could not be built from containers/Dockerfile: pip returned 1" in done.stderr


def test_docker_runs_a_command(machine, daemon, tmp_path):
    daemon.images[TAG], daemon.status = {}, 7
    (Path(machine["PATH"]) / "git").symlink_to(shutil.which("git"))
    machine |= {"RDM_PARAMS": "params/ci.yaml", "LD_LIBRARY_PATH": "/mine"}
    (tmp_path / "here").mkdir()
    command = ["rdm", "train", "--help", "ci-dit-s0"]
    done = rdm("container", "run", "--", *command, env=machine, cwd=tmp_path / "here", code=7)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    asked = daemon.created
    assert (asked["Image"], asked["Cmd"]) == (TAG, command)
    assert asked["User"] == f"{os.getuid()}:{os.getgid()}"
    assert asked["WorkingDir"] == str(tmp_path / "here")
    own = {"PYTHONPATH": str(ROOT / "src"), "HOME": str(tmp_path / "here"), "RDM_PARAMS": "params/ci.yaml"}
    given = dict(variable.split("=", 1) for variable in asked["Env"])
    assert own.items() <= given.items()
    assert "LD_LIBRARY_PATH" not in given
    environment.commit.cache_clear()
    assert given.get("RDM_COMMIT") == environment.commit()
    settings = asked["HostConfig"]
    assert (settings["ReadonlyRootfs"], settings["Init"]) == (True, True)
    assert not settings["DeviceRequests"]
    assert daemon.removed == 1


def test_what_a_container_sees(machine, daemon, tmp_path):
    """Each folder under the name by which it is reached; weights can be fetched where there are none yet."""
    daemon.images[TAG] = {}
    names = ("here", "locks", "experiments", "disk/results", "state", "volume", "photographs", "clips")
    here, locks, experiments, results, state, volume, *others = (tmp_path / name for name in names)
    for folder in (here, locks, experiments, results, state, volume, *others):
        folder.mkdir(parents=True)
    (tmp_path / "data").symlink_to(volume)
    for name, target in (("results", results), (".rdm", "../state"), ("data", tmp_path / "data")):
        (here / name).symlink_to(target)
    weights = tmp_path / "cache" / "weights"
    machine |= {"RDM_CACHE": str(weights), "RDM_LOCK_DIR": str(locks), "RDM_PARAMS": "../experiments/mine.yaml"}
    more = ["--bind", str(others[0]), "--bind", "../clips"]
    rdm("container", "run", *more, "rdm", "params", "show", env=machine, cwd=here)
    assert weights.is_dir()
    seen = (ROOT, here, weights, locks, experiments, results, state, tmp_path / "data", *others)
    expected = {f"{folder}:{folder}:rw" for folder in seen} | {f"{tempfile.gettempdir()}:/tmp:rw"}
    assert set(daemon.created["HostConfig"]["Binds"]) == expected
    done = rdm("container", "run", "--bind", "nowhere", "true", env=machine, cwd=here, code=2)
    assert "Directory 'nowhere' does not exist" in done.stderr


def test_a_cache_without_a_name_is_none(machine, daemon):
    """The usual one is where the container's home is."""
    daemon.images[TAG] = {}
    rdm("container", "run", "true", env=machine | {"RDM_CACHE": "", "XDG_CACHE_HOME": "/nowhere"})
    assert {f"{ROOT}:{ROOT}:rw", f"{tempfile.gettempdir()}:/tmp:rw"} == set(daemon.created["HostConfig"]["Binds"])


def test_docker_without_root(machine, daemon):
    """There the caller is root in a container, and nobody else may write the caller's files."""
    daemon.images[TAG] = {}
    daemon.security.append("name=rootless")
    rdm("container", "run", "true", env=machine)
    assert daemon.created["User"] == "0:0"


def test_a_socket_of_others(monkeypatch):
    def refuse():
        raise oci.DockerException("('Connection aborted.', PermissionError(13, 'Permission denied'))")

    monkeypatch.setattr(oci.docker, "from_env", refuse)
    with pytest.raises(
        RdmError, match=r"\(Permission denied\); join the group `docker`, name a rootless .* DOCKER_HOST"
    ):
        oci.labels(ROOT, None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_docker_hands_signals_on(machine, daemon, number):
    """The command in the container ends as it likes, and so does `rdm`: with what was printed until then."""
    daemon.images[TAG], daemon.status = {}, 3
    daemon.ended.clear()
    command = ["rdm", "container", "run", "rdm", "train", "ci-dit-s0"]
    with subprocess.Popen(command, env=machine, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "out\n"
        process.send_signal(number)
        assert process.wait(60) == 3
    assert daemon.signals == [number]
    assert daemon.removed == 1


def test_docker_passes_gpus_on(machine, daemon):
    daemon.images[TAG] = {}
    rdm("container", "run", "nvidia-smi", env=machine | {"CUDA_VISIBLE_DEVICES": "0"})
    (request,) = daemon.created["HostConfig"]["DeviceRequests"]
    assert (request["Count"], request["Capabilities"]) == (-1, [["gpu"]])


def test_inspect_compares_the_lock_and_looks_for_gpus(machine, daemon):
    mine = hashlib.sha256((ROOT / image.LOCK).read_bytes()).hexdigest()
    daemon.images = {TAG: {"lock": mine, "cuda": "13.0", "org.opencontainers.x": "y"}, "old": {"lock": "0"}}
    daemon.out = b"1\n"
    facts = json.loads(rdm("container", "inspect", "--json", env=machine).stdout)
    assert facts == {
        "image": TAG,
        "lock": mine,
        "cuda": "13.0",
        "belongs to the present lock": True,
        "GPUs here": 0,
    }
    seen = json.loads(
        rdm("container", "inspect", "old", "--json", env=machine | {"CUDA_VISIBLE_DEVICES": "0,1"}).stdout
    )
    assert seen["belongs to the present lock"] is False
    assert (seen["GPUs here"], seen["GPUs seen in it"]) == (2, 1)
    table = rdm("container", "inspect", env=machine).stdout
    assert "nvidia-driver" not in table
    assert re.search(r"cuda +13\.0", table)


def test_apptainer_comes_first(machine, daemon):
    pretend(machine, "singularity", 'echo "$@" >&2; exit 3')
    assert "build" in rdm("container", "build", env=machine, code=1).stderr
    assert daemon.build is None
    rdm("container", "build", "--engine", "docker", env=machine)
    assert daemon.build is not None


@pytest.mark.parametrize("name", ["apptainer", "singularity"])
def test_what_a_job_is_told(machine, tmp_path, monkeypatch, name):
    """What the user has bound stays; each folder once, also when a job on a cluster is told again."""
    pretend(machine, name, "")
    for folder in ("work/params", "other"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    prefix = name.upper()
    told = {"PATH": machine["PATH"], "CUDA_VISIBLE_DEVICES": "0", f"{prefix}_BIND": "/data:/inside,/x"}
    told["RDM_CACHE"] = str(tmp_path / "cache")
    monkeypatch.setattr(host, "commit", lambda: "abc")
    for _ in range(2):
        monkeypatch.setattr(os, "environ", told)
        told = told | apptainer.job_environment(ROOT, tmp_path / "work" / "params", tmp_path / "other", ROOT / "params")
        assert told[f"{prefix}_BIND"] == f"/data:/inside,/x,{ROOT},{tmp_path}/cache,{tmp_path}/other"
        assert told[f"{prefix}ENV_PYTHONPATH"] == f"{ROOT}/src"
        assert told[f"{prefix}_NV"] == "1"
        assert (told["RDM_CACHE"], told["RDM_COMMIT"]) == (str(tmp_path / "cache"), "abc")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["build"], 1, "Neither apptainer nor singularity is on PATH, and no Docker daemon answers; install"),
        (["run", "true"], 1, "Neither apptainer nor singularity is on PATH, and no Docker daemon answers; install"),
        (["build", "--engine", "apptainer"], 1, "Neither apptainer nor singularity is on PATH; install one"),
        (
            ["build", "--engine", "docker"],
            1,
            "none (No such file or directory); start one, or use `--engine apptainer`.",
        ),
        (["build", "--engine", "podman"], 2, "'podman' is not one of 'apptainer', 'docker'"),
        (["run"], 2, "Missing argument 'COMMAND...'"),
    ],
)
def test_without_an_engine(machine, arguments, code, sentence):
    assert sentence in rdm("container", *arguments, env=machine, code=code).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["build", "--build-arg", "BASE"], 2, "--build-arg BASE: write NAME=VALUE"),
        (["build", "--build-arg", "BASS=x"], 2, "containers/Dockerfile has no 'BASS'; did you mean 'BASE'?"),
        (["run", "true"], 1, f"Docker has no image {TAG} yet; run `rdm container build --engine docker` first"),
        (["inspect"], 1, f"Docker has no image {TAG} yet; run `rdm container build --engine docker` first"),
        (["inspect", "other:tag"], 1, "Docker has no image other:tag"),
    ],
)
def test_what_docker_cannot_do(machine, daemon, arguments, code, sentence):
    assert sentence in rdm("container", *arguments, env=machine, code=code).stderr
    assert daemon.build is daemon.created is None


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["build"], 1, "could not be built from containers/rdm.def: apptainer ended with exit code 3"),
        (["build", "--build-arg", "VENW=x"], 2, "containers/rdm.def has no 'VENW'; did you mean 'VENV'?"),
        (["run", "true"], 1, "is not there yet; run `rdm container build` first"),
        (["inspect"], 1, "is not there yet; run `rdm container build` first"),
        (["inspect", "nowhere.sif"], 2, "nowhere.sif: there is no such file"),
        (["inspect", "/etc/passwd"], 1, "/etc/passwd is no image: image format not recognized"),
    ],
)
def test_what_apptainer_cannot_do(machine, tmp_path, arguments, code, sentence):
    pretend(machine, "apptainer", "echo 'FATAL:   image format not recognized' >&2; exit 3")
    source = checkout(tmp_path / "checkout") / "src"
    shutil.copytree(ROOT / "src", source)
    environment = machine | {"PYTHONPATH": str(source)}
    assert sentence in rdm("container", *arguments, env=environment, code=code).stderr
    assert sorted(path.name for path in (tmp_path / "checkout" / "containers").iterdir()) == ["Dockerfile", "rdm.def"]
