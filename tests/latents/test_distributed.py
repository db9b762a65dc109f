"""Two processes that share the shards write the bytes of one that encodes them all."""

import json
import os
import shutil
import signal
import sys

import pytest
import yaml

from rdm import cli, paths
from rdm.latents import encoding
from tests.conftest import ROOT
from tests.test_cli import rdm
from tests.train.test_distributed import torchrun

SHARD = 100  # images or frames
FOLDERS = {
    "f4": paths.latents("tiny", "f4"),  # 15 shards
    "sky-f4": paths.latents("sky", "sky-f4"),  # 3 shards of mirrored clips
    "pixels": paths.latents("tiny", "pixels"),  # no shards
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder in which all is there that is encoded, and the parameter file. Do not change it."""
    folder = tmp_path_factory.mktemp("prepared")
    shutil.copytree(ROOT / "params", folder / "params")
    file = folder / "params" / "ci.yaml"
    content = yaml.safe_load(file.read_text())
    content["latents"]["pixels"] = {"kind": "pixels", "data": "tiny"}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for verb, names in (("data", ("tiny", "ucf", "sky")), ("autoencoder", ("f4", "ucf-f4", "pixels"))):
            for name in names:
                done = rdm(verb, name, params=file)
                assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def place(prepared, tmp_path):
    """A copy of the prepared folder: free to change."""
    return shutil.copytree(prepared, tmp_path / "place")


@pytest.fixture
def alone(prepared, tmp_path, monkeypatch):
    """alone(name, folder): what one process writes there."""
    monkeypatch.setattr(encoding, "SHARD", SHARD)

    def encoded(name, folder=tmp_path / "alone"):
        shutil.copytree(prepared, folder, dirs_exist_ok=True)
        monkeypatch.chdir(folder)
        done = rdm("latents", name, params=folder / "params" / "ci.yaml")
        assert done.exit_code == 0, done.output
        return written(folder, name)

    return encoded


def written(folder, name):
    """The files of encoded data, and what the manifest says of them."""
    files = {path.name: path.read_bytes() for path in (folder / FOLDERS[name]).iterdir()}
    manifest = json.loads(files.pop(paths.MANIFEST))
    return files, {key: manifest[key] for key in ("files", "facts")}


def together(name, folder, *killed):
    """Two processes; of `killed`, if there is one, the rank that dies before its second shard is whole."""
    return torchrun("-m", "tests.latents.test_distributed", name, str(folder), *killed)


@pytest.mark.parametrize(("name", "files"), [("sky-f4", 3), ("pixels", 1)])
def test_two_processes_encode_as_one_does(name, files, place, alone):
    done = together(name, place)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{FOLDERS[name]}\n"
    assert not list((place / ".rdm").rglob("*.safetensors"))
    shared = written(place, name)
    assert len(shared[0]) == files
    assert shared == alone(name)


@pytest.mark.parametrize(("killed", "processes"), [("0", 1), ("1", 2)])
def test_killed_they_go_on_to_the_same_bytes(killed, processes, place, alone):
    """Also if one process goes on alone; no shard is encoded twice."""
    expected = alone("f4")
    assert together("f4", place, killed).returncode != 0
    assert not (place / FOLDERS["f4"]).exists()
    kept = {path.name: path.stat().st_ino for path in (place / ".rdm" / "latents").rglob("[!.]*.safetensors")}
    assert 1 <= len(kept) < 15
    if processes == 1:
        found = alone("f4", place)
    else:
        done = together("f4", place)
        assert done.returncode == 0, done.stderr
        found = written(place, "f4")
    assert found == expected
    assert kept.items() <= {path.name: path.stat().st_ino for path in (place / FOLDERS["f4"]).iterdir()}.items()


def main(name, folder, killed=None):
    """One of the two processes."""
    os.chdir(folder)
    encoding.SHARD, save, saved = SHARD, encoding.save_file, []

    def save_or_die(content, path):
        save(content, path)
        saved.append(path)
        if len(saved) == 2 and os.environ["RANK"] == killed:
            os.kill(os.getpid(), signal.SIGKILL)

    encoding.save_file = save_or_die
    cli.main(["latents", name, "--params", "params/ci.yaml"])


if __name__ == "__main__":
    main(*sys.argv[1:])
