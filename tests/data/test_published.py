"""The paper's data sets: verified on miniatures of their layouts, and read by the readers that take them."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rdm import downloads, params
from rdm.data import fetching, imagenet, published
from rdm.data.packs import Pack
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
    monkeypatch.setattr(fetching, "fetch", lambda *what: asked.append(what))
    steps = rdm("datasets", "fetch", "ucf101", params=None).stdout
    lists = "UCF101TrainTestSplits-RecognitionTask.zip"
    assert asked == [
        ("https://www.crcv.ucf.edu/data/UCF101/UCF101.rar", Path("data/UCF101.rar"), None),
        (f"https://www.crcv.ucf.edu/data/UCF101/{lists}", Path("data") / lists, None),
    ]
    assert "that data/UCF-101 holds 101 folders" in steps


def test_parts_of_a_split_archive_are_those_that_were_published(small, monkeypatch):
    asked = []
    monkeypatch.setattr(fetching, "fetch", lambda *what: asked.append(what))
    steps = rdm("datasets", "fetch", "taichi-hd", params=None).stdout
    assert [target for _, target, _ in asked] == [
        Path(f"data/taichi-256-part.{suffix}") for suffix in ("z01", "z02", "z03", "z04", "zip")
    ]
    assert [digest is None for *_, digest in asked] == [False, True, False, False, False]
    assert steps.startswith("1. join the parts (`zip -s 0 taichi-256-part.zip")


def test_another_file_than_was_published_is_not_kept(small, monkeypatch):
    monkeypatch.setattr(downloads, "_download", lambda url, target: target.write_bytes(b"another"))
    found = rdm("datasets", "fetch", "taichi-hd", params=None)
    assert found.exit_code == 1
    _, sentence = found.stderr.splitlines()
    assert re.match(
        "Error: data/taichi-256-part.z01 has sha256 [0-9a-f]{64}, not fc3234ae.*, and was not kept", sentence
    )
    assert {path.name for path in Path("data").iterdir()} == {"imagenet"}


def test_digests_are_whole():
    for dataset in published.DATASETS.values():
        for download in dataset.downloads:
            assert download.sha256 is None or re.fullmatch("[0-9a-f]{64}", download.sha256)


def test_half_a_download_is_named_and_gone_on_with(small, monkeypatch):
    Path("data/UCF101.rar.part").touch()
    half = rdm("datasets", "verify", "ucf101", params=None)
    fails(half, 1, "data/UCF101.rar.part is half a download; `rdm datasets fetch ucf101` goes on with it")
    asked = []
    monkeypatch.setattr(fetching, "fetch", lambda *what: asked.append(what))
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


@pytest.fixture
def archives(small, monkeypatch):
    """ImageNet's archives in small: the content of each by name."""
    content = {name: name.encode() for name in (*imagenet.ARCHIVES.values(), imagenet.DEVKIT)}
    known = [
        published.Archive(name, hashlib.md5(data, usedforsecurity=False).hexdigest(), len(data), 3)
        for name, data in content.items()
    ]
    known[-1] = replace(known[-1], size=None)
    monkeypatch.setitem(published.DATASETS, "imagenet", replace(published.DATASETS["imagenet"], archives=tuple(known)))
    for name, data in content.items():
        (small / name).write_bytes(data)
    return content


def test_archives_are_compared_with_their_digests(small, archives):
    """Those that are read without unpacking."""
    content = archives
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


def test_all_archives_are_there_before_one_is_read(small, archives, monkeypatch):
    monkeypatch.setattr(fetching.hashlib, "md5", lambda **_: pytest.fail("one was read"))
    (small / imagenet.ARCHIVES["val"]).unlink()
    fails(verify(), 1, f"{imagenet.ARCHIVES['val']} is not there; `rdm datasets fetch imagenet` says where it is from")
    assert rdm("datasets", "fetch", "imagenet", params=None).stdout == "1. put it to data/imagenet/train\n"


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """COCO in small: two and one photographs, which lie in the folders of their splits directly."""
    own = published._coco(2014, 0, 2, 1)
    monkeypatch.setitem(published.DATASETS, "coco2014", own)
    monkeypatch.chdir(tmp_path)
    for name in ("train2014/1.jpg", "train2014/2.jpg", "val2014/3.jpg", "annotations/instances_val2014.json"):
        (Path("data/coco") / name).parent.mkdir(parents=True, exist_ok=True)
        (Path("data/coco") / name).touch()
    for part in ("train", "val"):
        (Path("data/coco/annotations") / f"captions_{part}2014.json").touch()
    return Path("data/coco")


def test_photographs_that_lie_in_one_folder(coco, monkeypatch):
    asked = []
    monkeypatch.setattr(fetching, "fetch", lambda url, target, _: asked.append((url, target)))
    coco.rename("away")  # of what is there, nothing is fetched
    steps = rdm("datasets", "fetch", "coco2014", params=None).stdout
    Path("away").rename(coco)
    assert steps == "1. unzip train2014.zip, val2014.zip and annotations_trainval2014.zip in data/coco\n"
    where = "http://images.cocodataset.org/"
    names = ("zips/train2014.zip", "zips/val2014.zip", "annotations/annotations_trainval2014.zip")
    assert asked == [(where + name, Path("data") / Path(name).name) for name in names]
    found = json.loads(rdm("datasets", "verify", "coco2014", "--json", params=None).output)
    assert [row["files"] for row in found] == [2, 1, 2]
    (coco / "annotations" / "captions_val2014.json").unlink()
    fails(
        rdm("datasets", "verify", "coco2014", params=None), 1, "annotations has 1 captions_train2014.json or", "has 2"
    )
    (coco / "val2014" / "4.jpg").touch()
    fails(rdm("datasets", "verify", "coco2014", params=None), 1, "val2014 has 2 .jpg files, coco2014 has 1")


def test_what_is_there_in_part_is_fetched(coco, monkeypatch):
    """Beside another year's; and where only some of it is unpacked."""
    asked = []
    monkeypatch.setattr(fetching, "fetch", lambda _, target, __: asked.append(target.name))
    assert "unzip train2017.zip" in rdm("datasets", "fetch", "coco2017", params=None).stdout
    assert asked == ["train2017.zip", "val2017.zip", "annotations_trainval2017.zip"]
    for part in ("train/imgs/000", "valid"):
        Path("data/journeydb", part).mkdir(parents=True)
    Path("data/journeydb/train/train_anno_realease_repath.jsonl").touch()
    assert rdm("datasets", "fetch", "journeydb", params=None).stdout.startswith("1. accept the terms")


@pytest.fixture
def packs(tmp_path, monkeypatch):
    """Two packs of four images, the working directory, and a server's stand-in, which holds both."""
    monkeypatch.chdir(tmp_path)
    parts = tuple(Pack(f"https://there.invalid/{name}.npz", (4, 2, 2, 3)) for name in ("one", "two"))
    own = published.Published("a test", "data/adm-samples", 0, "none", parts, ())
    monkeypatch.setitem(published.DATASETS, "adm-samples", own)
    held = {part.url: np.full((4, 2, 2, 3), number, np.uint8) for number, part in enumerate(parts)}

    def download(url, target):
        with target.open("wb") as stream:
            np.savez(stream, arr_0=held[url])

    monkeypatch.setattr(downloads, "_download", download)
    return Path("data/adm-samples"), held


def samples(verb, *arguments):
    return rdm("datasets", verb, "adm-samples", *arguments, params=None)


def test_packs_of_samples_are_fetched_and_verified(packs):
    place, _ = packs
    fails(samples("verify"), 1, "one.npz is not there, or not whole; `rdm datasets fetch adm-samples` downloads it")
    assert samples("fetch").exit_code == 0
    assert {path.name for path in place.iterdir()} == {"one.npz", "one.npz.sha256", "two.npz", "two.npz.sha256"}
    assert json.loads(samples("verify", "--json").output) == [
        {"file": str(place / name), "images": 4, "size": "2x2"} for name in ("one.npz", "two.npz")
    ]
    assert "https://there.invalid/one.npz https://there.invalid/two.npz" in rdm("datasets", "list", params=None).output


def refused():
    """The one sentence of a download that fails; the licence was said before."""
    result = samples("fetch")
    assert result.exit_code == 1
    licence, sentence = result.stderr.splitlines()
    assert licence.startswith("a test; 0 GB.")
    return sentence


def test_packs_that_are_not_those_are_refused(packs):
    place, held = packs
    samples("fetch")
    whole = (place / "one.npz").read_bytes()
    (place / "one.npz").write_bytes(whole[: len(whole) // 2])
    assert "it was changed or damaged; remove it and try again" in refused()
    fails(samples("verify"), 2, "one.npz")
    (place / "one.npz").unlink()
    held["https://there.invalid/one.npz"] = np.zeros((4, 2, 3, 3), np.uint8)
    assert "one.npz has sha256" in refused()  # that of the first download holds
    (place / "one.npz.sha256").unlink()
    assert "one.npz holds images of shape (4, 2, 3, 3), published were" in refused()
    fails(samples("verify"), 1, "one.npz holds images of shape (4, 2, 3, 3), published were (4, 2, 2, 3)")
    np.savez(place / "one.npz", arr_0=np.zeros((4, 3, 2, 2), np.uint8))
    fails(samples("verify"), 2, "one.npz: the array has shape (4, 3, 2, 2), whose last axis is not")


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


def test_the_packs_are_the_samples_of_the_paper_s_parameters():
    packs, place = published.DATASETS["adm-samples"].parts, Path(published.DATASETS["adm-samples"].folder)
    declared = {Path(own.path) for own in params.load(ROOT / "params" / "paper.yaml").published.values()}
    assert {place / pack.file for pack in packs} == declared - {Path("data/stylegan-xl")}
