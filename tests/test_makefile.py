"""The Makefile: one make at a time in a folder."""

import os
import shutil
import signal
import subprocess

import pytest

from tests.conftest import ROOT


@pytest.fixture
def clone(tmp_path):
    """A folder whose environment is current, with a Snakemake that says what it is asked for, and waits."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    program = tmp_path / ".venv" / "bin" / "snakemake"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$@"\nexec sleep 60\n')
    program.chmod(0o755)
    (tmp_path / ".venv" / ".installed").touch()
    return tmp_path


def make(folder, target):
    """A make in this folder, in a group of processes of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # not below `make test`
    return subprocess.Popen(["make", target], cwd=folder, env=alone, text=True, start_new_session=True, **pipes)


def test_a_second_make_is_refused_and_a_killed_one_leaves_nothing_to_unlock(clone):
    """Also where the second one would begin by making the environment anew."""
    installed, lock = clone / ".venv" / ".installed", clone / "requirements.lock"
    for younger in (installed, lock):
        installed.touch()
        with make(clone, "reproduce") as first:
            assert "results/table1.csv" in first.stdout.readline()
            younger.touch()
            with make(clone, "videos") as second:
                assert f"Another make is at work in {clone}; wait for it" in second.stderr.read()
            os.killpg(first.pid, signal.SIGKILL)
        assert second.returncode == 2
    assert (clone / ".venv" / "bin" / "snakemake").exists()
