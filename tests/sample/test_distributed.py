"""Two processes that share the shards write the bytes of one that draws them all, for one sampler after the other."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from rdm import cli, paths
from rdm.sample import stage
from tests.conftest import CI
from tests.train.test_distributed import torchrun

SAMPLES = paths.RESULTS / "sample"
IMAGES, CLIPS = "ci-dit-s0", "ci-ucf-latte-s0"  # each with two samplers, of 6 and of 3 shards


@pytest.fixture
def alone(workspace, experiment, monkeypatch):
    """alone(run): what one process writes, which it then takes away."""
    monkeypatch.setattr(stage, "SHARD_BATCHES", 1)

    def drawn(run):
        shutil.rmtree(SAMPLES / run, ignore_errors=True)
        stage.run(experiment, run)
        found = written(run)
        shutil.rmtree(SAMPLES / run)
        return found

    return drawn


def written(run):
    """Every file that a run's samplers made; of the manifests what does not tell the time."""
    files = {str(path): path.read_bytes() for path in sorted((SAMPLES / run).rglob("*")) if path.is_file()}
    for path in [path for path in files if path.endswith(paths.MANIFEST)]:
        manifest = json.loads(files.pop(path))
        files[path] = {key: manifest[key] for key in ("files", "facts")}
    return files


def together(run, *killed):
    """Two processes here; of `killed`, if there is one, the rank that dies before its second shard is whole."""
    return torchrun("-m", "tests.sample.test_distributed", run, str(Path.cwd()), *killed)


@pytest.mark.parametrize(("run", "shards"), [(IMAGES, 12), (CLIPS, 6)])
def test_two_processes_draw_as_one_does(run, shards, alone, experiment):
    expected = alone(run)
    assert sum(path.endswith(".npz") for path in expected) == shards
    done = together(run)
    assert done.returncode == 0, done.stderr
    samplers = experiment.samplers_of(experiment.find_run(run)[0])
    assert done.stdout.split() == [str(paths.sample(run, sampler)) for sampler in samplers]
    assert written(run) == expected
    assert not list(paths.STATE.rglob("*.npz"))


def test_killed_they_go_on_to_the_same_bytes(alone, experiment):
    """No shard is drawn twice."""
    expected = alone(IMAGES)
    assert together(IMAGES, "1").returncode != 0
    assert not list((SAMPLES / IMAGES).rglob(paths.MANIFEST))
    kept = {path.name: path.stat().st_ino for path in paths.STATE.rglob("[!.]*.npz")}
    assert 1 <= len(kept) < 6
    done = together(IMAGES)
    assert done.returncode == 0, done.stderr
    assert written(IMAGES) == expected
    first = paths.sample(IMAGES, experiment.samplers_of(experiment.find_run(IMAGES)[0])[0])
    assert kept.items() <= {path.name: path.stat().st_ino for path in first.iterdir()}.items()


def main(run, folder, killed=None):
    """One of the two processes."""
    os.chdir(folder)
    stage.SHARD_BATCHES, draw, drawn = 1, stage.Drawing.batch, []

    def draw_or_die(drawing, start):
        drawn.append(start)
        if len(drawn) == 2 and os.environ["RANK"] == killed:
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(drawing, start)

    stage.Drawing.batch = draw_or_die
    cli.main(["sample", run, "--params", str(CI)])


if __name__ == "__main__":
    main(*sys.argv[1:])
