"""The paper's data sets: verified on miniatures of their layouts, and read by the readers that take them."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from rdm import params
from rdm.data import imagenet, published
from tests.conftest import ROOT
from tests.test_cli import fails, rdm


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A miniature of ImageNet: two classes of three and two photographs each; the working directory holds it."""
    parts = (published.Part("train", published.IMAGES, 2, 6), published.Part("val", published.IMAGES, 2, 4))
    own = published.Published("a test", "data/imagenet", 0, "none", parts, ("put it to {folder}/train",))
    monkeypatch.setitem(published.DATASETS, "imagenet", own)
    monkeypatch.chdir(tmp_path)
    for part, count in (("train", 3), ("val", 2)):
        for wnid in ("n01", "n02"):
            for number in range(count):
                file = Path("data/imagenet") / part / wnid / f"{number}.JPEG"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
    return Path("data/imagenet")


def verify(*arguments):
    return rdm("datasets", "verify", "imagenet", *arguments, params=None)


def test_what_is_whole(small):
    assert json.loads(verify("--json").output) == [
        {"folder": "data/imagenet/train", "classes": 2, "files": 6},
        {"folder": "data/imagenet/val", "classes": 2, "files": 4},
    ]
    small.rename("elsewhere")
    assert verify("--folder", "elsewhere").exit_code == 0
    fails(verify(), 1, "data/imagenet/train is not there; `rdm datasets fetch imagenet` says how")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "train" / "n02").rename(f / "n02"), "train has 1 folders, imagenet has 2"),
        (lambda f: (f / "val" / "n01" / "0.JPEG").unlink(), "val has 3 files, imagenet has 4"),
        (lambda f: (f / "train" / "n01" / "0.JPEG").rename(f / "train" / "n01" / "0.txt"), "train has 5 files"),
        (lambda f: [p.unlink() for p in (f / "val" / "n02").iterdir()], "val/n02 (and 0 more) holds no .jpeg"),
    ],
    ids=["a class too few", "a file too few", "not an image", "an empty class"],
)
def test_what_is_not_is_named(small, change, message):
    change(small)
    fails(verify(), 1, message)


def test_steps_by_hand(small):
    result = rdm("datasets", "fetch", "imagenet", "--folder", "here", params=None)
    assert result.stdout == "1. put it to here/train\n"
    assert "Licence: none." in result.stderr


def test_what_may_be_downloaded_is(small, monkeypatch):
    asked = []
    monkeypatch.setattr(published, "fetch", lambda *what: asked.append(what))
    steps = rdm("datasets", "fetch", "ucf101", params=None).stdout
    lists = "UCF101TrainTestSplits-RecognitionTask.zip"
    assert asked == [
        ("https://www.crcv.ucf.edu/data/UCF101/UCF101.rar", Path("data/UCF101.rar"), None),
        (f"https://www.crcv.ucf.edu/data/UCF101/{lists}", Path("data") / lists, None),
    ]
    assert "that data/UCF-101 holds 101 folders" in steps


def test_half_a_download_is_named_and_gone_on_with(small, monkeypatch):
    Path("data/UCF101.rar.part").touch()
    half = rdm("datasets", "verify", "ucf101", params=None)
    fails(half, 1, "data/UCF101.rar.part is half a download; `rdm datasets fetch ucf101` goes on with it")
    asked = []
    monkeypatch.setattr(published, "fetch", lambda *what: asked.append(what))
    (Path("data/UCF-101") / "Archery").mkdir(parents=True)
    assert rdm("datasets", "fetch", "ucf101", params=None).exit_code == 0
    assert len(asked) == 2


def test_fetching_what_is_there_verifies_it(small):
    whole = rdm("datasets", "fetch", "imagenet", params=None)
    assert whole.stdout == ""
    assert "imagenet is there, and whole." in whole.stderr
    (small / "val" / "n01" / "0.JPEG").unlink()
    less = rdm("datasets", "fetch", "imagenet", params=None)  # the licence stands before the error
    assert less.exit_code == 1
    assert less.stderr.endswith("Error: data/imagenet/val has 3 files, imagenet has 4; unpack it anew.\n")


def test_archives_are_compared_with_their_digests(small, monkeypatch):
    """Those that are read without unpacking."""
    content = {name: name.encode() for name in (*imagenet.ARCHIVES.values(), imagenet.DEVKIT)}
    known = [
        published.Archive(name, hashlib.md5(data, usedforsecurity=False).hexdigest(), len(data), 3)
        for name, data in content.items()
    ]
    known[-1] = replace(known[-1], size=None)
    monkeypatch.setitem(published.DATASETS, "imagenet", replace(published.DATASETS["imagenet"], archives=tuple(known)))
    for name, data in content.items():
        (small / name).write_bytes(data)
    assert [row["folder"] for row in json.loads(verify("--json").output)] == [f"data/imagenet/{n}" for n in content]
    for name, data in content.items():
        (small / name).write_bytes(data[:-1] + b"!")
        fails(verify(), 1, f"{name} has md5 ", "it is damaged; download it again")
        if name != imagenet.DEVKIT:
            (small / name).write_bytes(data[:-1])
            fails(verify(), 1, f"{name} has {len(data) - 1} bytes, not {len(data)}; download")
        (small / name).write_bytes(data)
    (small / imagenet.DEVKIT).unlink()
    fails(verify(), 1, f"{imagenet.DEVKIT} is not there; `rdm datasets fetch imagenet` says where it is from")
    (small / imagenet.SYNSETS).touch()
    assert verify().exit_code == 0


def test_bad_names(small):
    fails(rdm("datasets", "verify", "imagnet", params=None), 2, "did you mean 'imagenet'?")
    fails(rdm("datasets", "fetch", "cifar", params=None), 2, "There is no published data set 'cifar'")


def test_the_list_is_that_of_the_paper_s_parameters():
    """Each data set of params/paper.yaml, where it looks for it."""
    listed = rdm("datasets", "list", params=None).output
    for name, data in params.load(ROOT / "params" / "paper.yaml").data.items():
        assert name in listed
        place = Path(getattr(data, "folder", None) or data.train)
        assert place.is_relative_to(published.DATASETS[name].folder)
