"""ImageNet's official archives, in miniature: read as they are, they give what unpacked folders give."""

import io
import shutil
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from scipy.io import savemat

from rdm import params
from rdm.data import imagenet
from rdm.data import stage as data
from rdm.data.folder import open_folder
from rdm.data.images import Photograph
from rdm.data.photographs import Photographs, write_index
from rdm.errors import RdmError
from rdm.latents import encoding
from rdm.params.schema import FolderData
from tests.test_cli import fails, rdm

WNIDS = ("n01440764", "n01443537", "n02084071")
VALIDATION = [2, 0, 0, 1, 2]  # the class of each validation image, in order of their names


def jpeg(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((70, 50), Image.Resampling.BICUBIC).save(stream, "JPEG")
    return stream.getvalue()


def pack(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def development_kit():
    """meta.mat as published: a struct array; IDs count from 1 in an order of their own, inner nodes come last."""
    order, synsets = (1, 2, 0), np.zeros(4, [(n, object) for n in ("ILSVRC2012_ID", "WNID", "words", "num_children")])
    for number, label in enumerate(order):
        synsets[number] = (number + 1, WNIDS[label], "a fish", 0)
    synsets[3] = (4, "n00001740", "entity", 3)
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets})
    truth = "".join(f"{order.index(label) + 1}\n" for label in VALIDATION)
    place = "ILSVRC2012_devkit_t12/data"
    return pack(
        {f"{place}/meta.mat": meta.getvalue(), f"{place}/ILSVRC2012_validation_ground_truth.txt": truth.encode()}
    )


@pytest.fixture
def both(tmp_path):
    """The same photographs in folders and in the official archives; members lie in the archives in any order."""
    unpacked, packed, tars = tmp_path / "unpacked", tmp_path / "packed", {}
    packed.mkdir()
    for label in (1, 2, 0):
        files = {f"{WNIDS[label]}_{number}.JPEG": jpeg(10 * label + number) for number in (7, 10, 3)}
        tars[f"{WNIDS[label]}.tar"] = pack(files)
        write(unpacked / "train" / WNIDS[label], files)
    (packed / imagenet.ARCHIVES["train"]).write_bytes(pack(tars))
    files = {f"ILSVRC2012_val_{number:08d}.JPEG": jpeg(100 + number) for number in (2, 1, 3, 5, 4)}
    for name, content in files.items():
        write(unpacked / "val" / WNIDS[VALIDATION[int(name[15:23]) - 1]], {name: content})
    (packed / imagenet.ARCHIVES["val"]).write_bytes(pack(files))
    with (
        tarfile.open(packed / imagenet.DEVKIT, "w:gz") as kit,
        tarfile.open(fileobj=io.BytesIO(development_kit())) as plain,
    ):
        for member in plain:
            kit.addfile(member, plain.extractfile(member))
    return unpacked, packed


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def opened(folder, threads=1, **changes):
    return open_folder(FolderData(source="folder", image_size=16, folder=str(folder), **changes), threads)


def content(folder, **how):
    source = opened(folder, **how)
    return [
        (np.array(list(split.pixels)), split.labels.tolist(), source.classes) for split in (source.train, source.test)
    ]


@pytest.mark.parametrize("labels", ["kit", "list"])
def test_archives_are_what_their_folders_are(both, labels):
    unpacked, packed = both
    if labels == "list":
        (packed / imagenet.DEVKIT).unlink()
        (packed / imagenet.SYNSETS).write_text("".join(f"{WNIDS[label]}\n" for label in VALIDATION))
    for ours, theirs in zip(content(packed, classes=3), content(unpacked, threads=3), strict=True):
        assert np.array_equal(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]
        assert ours[2] == list(WNIDS)
    assert content(packed)[0][1] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert content(packed)[1][1] == sorted(VALIDATION)


def test_one_split_may_be_unpacked(both):
    unpacked, packed = both
    shutil.copytree(unpacked / "train", packed / "train")
    assert np.array_equal(content(packed)[0][0], content(unpacked)[0][0])


def cut(folder):
    """Half a download."""
    archive = folder / imagenet.ARCHIVES["train"]
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])


def no_archive(folder):
    (folder / imagenet.ARCHIVES["train"]).write_bytes(b"<html>please log in</html>" * 100)


def no_kit(folder):
    (folder / imagenet.DEVKIT).write_bytes(b"<html>please log in</html>" * 100)


def few_labels(folder):
    (folder / imagenet.SYNSETS).write_text("n01440764\n" * 4)


BAD = {
    "half": (cut, r"ILSVRC2012_img_train.tar cannot be read \(.*\); download it again"),
    "a page": (no_archive, r"ILSVRC2012_img_train.tar cannot be read \(.*\); download it again"),
    "no labels": (lambda f: (f / imagenet.DEVKIT).unlink(), "without its labels; put ILSVRC2012_devkit_t12.tar.gz or"),
    "no kit": (no_kit, r"ILSVRC2012_devkit_t12.tar.gz cannot be read \(.*\); download"),
    "few labels": (few_labels, "labels of 4 validation images, and 5 of these"),
    "nothing": (
        lambda f: (f / imagenet.ARCHIVES["train"]).unlink(),
        "train holds no class folders; .* or ImageNet's official ILSVRC2012_img_train.tar into",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_with_archives_is_one_sentence(both, case):
    change, message = BAD[case]
    change(both[1])
    with pytest.raises(RdmError, match=message) as caught:
        opened(both[1])
    assert "\n" not in str(caught.value)


def test_a_damaged_image_in_an_archive_is_named(both):
    archive = both[1] / imagenet.ARCHIVES["val"]
    whole = archive.read_bytes()
    place = whole.index(b"\xff\xd8\xff", whole.index(b"ILSVRC2012_val_00000003"))
    archive.write_bytes(whole[:place] + bytes(300) + whole[place + 300 :])
    with pytest.raises(RdmError, match="img_val.tar: ILSVRC2012_val_00000003.JPEG cannot be read as an image"):
        list(opened(both[1]).test.pixels)


def test_a_class_too_few(both):
    """Of one split, or of both: the latter only the parameters can tell."""
    unpacked, packed = both
    for folder in (unpacked, packed):
        with pytest.raises(RdmError, match="hold 3 classes, and the parameters say 1000; unpack what is missing"):
            opened(folder, classes=1000)
    shutil.rmtree(unpacked / "val" / WNIDS[1])
    with pytest.raises(RdmError, match=f"different class folders, only one of them {WNIDS[1]}; check"):
        opened(unpacked)


@pytest.fixture
def imagenet_parameters(write_params, tmp_path, monkeypatch):
    """A parameter file with a data set like the paper's, whose folder is data/imagenet in the working directory."""
    monkeypatch.chdir(tmp_path)
    entry = {"source": "folder", "image_size": 16, "folder": "data/imagenet", "classes": 1000}
    return write_params(lambda content: content["data"].update(imagenet=entry))


def test_the_stage_refuses_before_anything_is_written(imagenet_parameters, both, monkeypatch):
    refused = rdm("data", "imagenet", params=imagenet_parameters)
    fails(refused, 2, "data/imagenet is not there", "non-commercial research", "`rdm datasets fetch imagenet` says how")
    shutil.copytree(both[1], "data/imagenet")
    fails(rdm("data", "imagenet", params=imagenet_parameters), 1, "hold 3 classes, and the parameters say 1000")
    text = imagenet_parameters.read_text().replace("classes: 1000", "classes: 3")
    imagenet_parameters.write_text(text)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: type("", (), {"free": 10**4})())
        refused = rdm("data", "imagenet", params=imagenet_parameters)
        fails(
            refused,
            1,
            "results/data/imagenet needs 0.0 GB more",
            "a folder on a larger disk (`snakemake --directory FOLDER`",
        )
    assert not Path("results").exists()
    assert rdm("data", "imagenet", params=imagenet_parameters).exit_code == 0
    assert np.load("results/data/imagenet/train_images.npy").shape == (9, 16, 16, 3)


# ---------------------------------------------------------------- pixels that stay in their files


@pytest.fixture
def in_both_ways(imagenet_parameters, both):
    """loaded(threads): the training split of either folder layout, stored and not stored."""
    content = yaml.safe_load(imagenet_parameters.read_text())
    for name, folder in zip(("unpacked", "packed"), both, strict=True):
        shutil.copytree(folder, f"data/{name}")
        entry = {"source": "folder", "image_size": 16, "folder": f"data/{name}"}
        content["data"] |= {name: {**entry, "stored": False}, f"{name}-stored": entry}
    del content["data"]["imagenet"]

    def loaded(threads=2):
        imagenet_parameters.write_text(yaml.safe_dump(content | {"threads": threads}))
        experiment = params.load(imagenet_parameters)
        names = [name for name in experiment.data if "packed" in name]
        for name in names:
            data.run(experiment, name)
        return {name: data.load(experiment, name, "train") for name in names}

    return loaded


@pytest.mark.parametrize("threads", [1, 3])
def test_pixels_that_are_not_stored_are_those_that_would_be(in_both_ways, threads):
    sets = in_both_ways(threads)
    assert len(sets) == 4
    for name in ("unpacked", "packed"):
        read, stored = sets[name].images, sets[f"{name}-stored"].images
        assert {path.suffix for path in Path("results/data", name).iterdir()} == {".npy", ".csv", ".json"}
        assert not list(Path("results/data", name).glob("*images.npy"))
        assert (len(read), read.shape) == (9, stored.shape)
        for index in (slice(None), slice(3, 5), slice(9, 9), np.array([7, 0, 7]), np.arange(9) % 2 == 0):
            assert np.array_equal(read[index], stored[index])
        assert np.array_equal(sets[name].labels, sets[f"{name}-stored"].labels)


def test_photographs_are_decoded_while_those_before_are_encoded(in_both_ways, tmp_path, monkeypatch):
    """An encoder that ends a batch only when the next one has been decoded would wait for ever without."""
    sets, decoded, read = in_both_ways(), threading.Semaphore(0), Photograph.read
    monkeypatch.setattr(encoding, "BATCH", 3)
    monkeypatch.setattr(Photograph, "read", lambda self, size: (read(self, size), decoded.release())[0])

    class Encoder:
        autoencoder, batches = None, 0

        def encode_raw(self, images):
            self.batches += 1
            needed = 6 if self.batches == 1 else 3 if self.batches == 2 else 0  # this batch's and the next one's
            assert all(decoded.acquire(timeout=60) for _ in range(needed))
            return torch.from_numpy(images.astype(np.float32)).movedim(-1, 1).contiguous()

        def stored_bytes(self, shape):
            return 1

    [shard] = encoding.encode_shards(Encoder(), sets["packed"], False, tmp_path / "state", tmp_path)
    pixels = load_file(shard)["latents"].movedim(1, -1)
    assert np.array_equal(pixels.numpy().astype(np.uint8), sets["packed-stored"].images)


def test_photographs_that_are_no_longer_those_of_the_index(in_both_ways):
    sets = in_both_ways()
    photograph = Path(f"data/unpacked/train/{WNIDS[1]}/{WNIDS[1]}_10.JPEG")
    for content in (jpeg(999), b"no image"):
        photograph.write_bytes(content)
        with pytest.raises(RdmError, match=r"_10.JPEG is another image than when `rdm data` saw it; get that back,"):
            sets["unpacked"].images[:]
    photograph.unlink()
    with pytest.raises(RdmError, match=r"_10.JPEG is not there; get it back, or remove its data set's folder in"):
        sets["unpacked"].images[:]
    archive = Path("data/packed") / imagenet.ARCHIVES["train"]
    content = bytearray(archive.read_bytes())
    content[content.index(jpeg(17)) + 500] ^= 1
    archive.write_bytes(content)
    with pytest.raises(RdmError, match=r"ILSVRC2012_img_train.tar: from byte \d+ is another image"):
        sets["packed"].images[:]
    assert len(sets["packed-stored"].images) == 9


@pytest.mark.parametrize("content", [b"no image", jpeg(3)[:-200]], ids=["no image", "the end is missing"])
def test_what_is_no_whole_image_is_not_indexed(content, in_both_ways, imagenet_parameters):
    in_both_ways()
    Path(f"data/unpacked/val/{WNIDS[0]}/x.jpg").write_bytes(content)
    assert rdm("data", "unpacked", params=imagenet_parameters).exit_code == 0  # photographs are looked at when read
    shutil.rmtree("results/data/unpacked")
    fails(rdm("data", "unpacked", params=imagenet_parameters), 1, "x.jpg cannot be read as an image")
    assert not Path("results/data/unpacked").exists()


def test_any_name_of_a_file_can_be_indexed(tmp_path):
    """With what a line of text cannot hold, and of a file that lies elsewhere."""
    names = ["a,b.png", 'say "x".png', "two\nlines.png", "a\rb.png", b"\xff.png".decode(errors="surrogateescape")]
    files = [tmp_path / "root" / name for name in names] + [tmp_path / "elsewhere.png"]
    files[0].parent.mkdir()
    for value, file in enumerate(files):
        Image.fromarray(np.full((9, 9, 3), value, np.uint8)).save(file)
    write_index(tmp_path / "index.csv", [Photograph(str(file), file) for file in files], tmp_path / "root", 2)
    read = Photographs(tmp_path / "index.csv", tmp_path / "root", 8, 2)
    assert read[:].mean((1, 2, 3)).tolist() == list(range(6))
