"""The data sets of the paper: where they come from, under which terms, and whether what lies there is all of one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdm.data import imagenet
from rdm.downloads import fetch
from rdm.errors import RdmError, UsageError, nearest
from rdm.progress import progress

IMAGES, FRAMES, VIDEOS = (".jpeg", ".jpg", ".png"), (".jpg", ".png"), (".avi",)


@dataclass(frozen=True)
class Part:
    """A folder of a data set. classes: its own folders; files: all below them. None: any number, but not none."""

    folder: str
    suffixes: tuple[str, ...]
    classes: int | None
    files: int | None


@dataclass(frozen=True)
class Archive:
    """A file that is read as it is, without unpacking. size: bytes; None: not known. files: in it."""

    name: str
    md5: str
    size: int | None
    files: int


@dataclass(frozen=True)
class Published:
    """A data set that others published.

    parts: its folders. archives: its files, which may be there instead. urls: of what may be downloaded without asking.
    steps: what is left to do by hand.
    """

    what: str
    folder: str  # as params/paper.yaml names it
    gigabytes: float
    licence: str
    parts: tuple[Part, ...]
    steps: tuple[str, ...]
    urls: tuple[str, ...] = ()
    archives: tuple[Archive, ...] = ()


DATASETS = {
    "imagenet": Published(
        "ImageNet-1k (ILSVRC 2012): photographs of 1,000 classes",
        "data/imagenet",
        155,
        "non-commercial research and education, after registration at image-net.org",
        (Part("train", IMAGES, 1000, 1_281_167), Part("val", IMAGES, 1000, 50_000)),
        (
            "register at image-net.org, and accept its terms (non-commercial research and education)",
            "download from its ILSVRC 2012 page ILSVRC2012_img_train.tar (147.9 GB), ILSVRC2012_img_val.tar (6.7 GB) "
            "and ILSVRC2012_devkit_t12.tar.gz (the labels of the second)",
            "put all three into {folder}; they are read as they are (folders {folder}/train/<wnid>/*.JPEG and "
            "{folder}/val/<wnid>/*.JPEG will do, too)",
        ),
        archives=(
            Archive(imagenet.ARCHIVES["train"], "1d675b47d978889d74fa0da5fadfb00e", 147_897_477_120, 1_281_167),
            Archive(imagenet.ARCHIVES["val"], "29b22e2961454d5413ddabcf34fc5622", 6_744_924_160, 50_000),
            Archive(imagenet.DEVKIT, "fa75699e90414af021442c21a62c3abf", None, 50_000),
        ),
    ),
    "ucf101": Published(
        "UCF-101: 13,320 videos of 101 actions",
        "data/UCF-101",
        7,
        "research; the videos are from YouTube",
        (Part(".", VIDEOS, 101, 13_320),),
        (
            "unpack UCF101.rar (`unrar x` or `bsdtar -xf`), so that {folder} holds 101 folders of avi files",
            "only for the official splits (`train_list`, `test_list`): unzip UCF101TrainTestSplits-RecognitionTask.zip",
        ),
        (
            "https://www.crcv.ucf.edu/data/UCF101/UCF101.rar",
            "https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",
        ),
    ),
    "skytimelapse": Published(
        "SkyTimelapse: videos of moving clouds, as frames",
        "data/sky_timelapse",
        29,
        "none stated by its authors; the copy at maxin-cn/SkyTimelapse is tagged Apache-2.0",
        (Part("sky_train", FRAMES, None, None),),
        (
            "unzip sky_timelapse.zip to {folder}; its folder sky_train holds two levels of folders of frames",
            "remove the empty folders and sky_train/z6Yr7KDZhm0, which is damaged",
        ),
        ("https://huggingface.co/datasets/maxin-cn/SkyTimelapse/resolve/main/sky_timelapse.zip",),
    ),
    "taichi-hd": Published(
        "Taichi-HD: videos of Tai Chi at 256x256, as frames",
        "data/taichi-hd",
        107,
        "of the videos, from YouTube, none is stated; the copy at maxin-cn/Taichi-HD is tagged Apache-2.0",
        (Part("frames/train", FRAMES, None, None),),
        (
            "download all parts of the split zip file from huggingface.co/datasets/maxin-cn/Taichi-HD",
            "join them (`zip -s 0 PARTS.zip --out whole.zip`) and unzip, so that {folder}/frames/train holds a folder "
            "of frames for each video",
        ),
    ),
}


def find(name: str) -> Published:
    """The data set of this name. Raises UsageError if there is none."""
    if name not in DATASETS:
        raise UsageError(f"There is no published data set {name!r}; {nearest(name, DATASETS)}")
    return DATASETS[name]


def require_place(place: Path) -> None:
    """Raise UsageError unless this folder, which parameters name, is there."""
    if place.is_dir():
        return
    for name, dataset in DATASETS.items():
        if place.is_relative_to(dataset.folder):
            raise UsageError(
                f"{place} is not there; {name} may be used for {dataset.licence}, and `rdm datasets fetch {name}` says "
                "how it gets there."
            )
    raise UsageError(f"{place} is not there; check the path in the parameter file.")


def rows() -> list[dict[str, Any]]:
    """What there is, a row each."""
    return [
        {"name": n, "what": d.what, "GB": d.gigabytes, "licence": d.licence, "download": " ".join(d.urls) or "by hand"}
        for n, d in DATASETS.items()
    ]


def fetch_dataset(name: str, folder: Path | None) -> list[str]:
    """Download what may be downloaded; returns the steps that are left: none, if all is in its place.

    Raises RdmError if the download fails, or if what is in its place is not the whole of it.
    """
    dataset = find(name)
    place = folder or Path(dataset.folder)
    if place.is_dir() and any(place.iterdir()) and not _halves(dataset, place):
        verify_dataset(name, folder)
        return []
    for url in dataset.urls:
        archive = _download(place, url)
        archive.parent.mkdir(parents=True, exist_ok=True)
        fetch(url, archive, None)
    return [step.format(folder=place) for step in dataset.steps]


def verify_dataset(name: str, folder: Path | None) -> list[dict[str, Any]]:
    """Count what lies there; returns a row per part. Raises RdmError at the first number that is another.

    Of archives that are read as they are, sizes and digests are compared.
    """
    dataset = find(name)
    place = folder or Path(dataset.folder)
    for half in _halves(dataset, place):
        raise RdmError(f"{half} is half a download; `rdm datasets fetch {name}` goes on with it.")
    if dataset.archives and (place / dataset.archives[0].name).is_file():
        listed = {imagenet.DEVKIT} if (place / imagenet.SYNSETS).is_file() else set()  # labels from elsewhere
        return [_verify_archive(place, archive, name) for archive in dataset.archives if archive.name not in listed]
    return [_verify(place, part, name) for part in dataset.parts]


def _download(place: Path, url: str) -> Path:
    """Where a file of a data set is downloaded to: beside its folder."""
    return place.parent / url.rsplit("/", 1)[1]


def _halves(dataset: Published, place: Path) -> list[Path]:
    """What interrupted downloads left."""
    return [half for half in (_download(place, f"{url}.part") for url in dataset.urls) if half.is_file()]


def _verify_archive(place: Path, archive: Archive, name: str) -> dict[str, Any]:
    file = place / archive.name
    if not file.is_file():
        raise RdmError(f"{file} is not there; `rdm datasets fetch {name}` says where it is from.")
    size = file.stat().st_size
    if archive.size is not None and size != archive.size:
        raise RdmError(f"{file} has {size} bytes, not {archive.size}; download it again, or the rest of it.")
    found = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as stream, progress(f"verifying {archive.name}", size) as bar:
        while block := stream.read(1 << 22):
            found.update(block)
            bar.update(len(block))
    if found.hexdigest() != archive.md5:
        raise RdmError(f"{file} has md5 {found.hexdigest()}, not {archive.md5}: it is damaged; download it again.")
    return {"folder": str(file), "classes": 1000, "files": archive.files}


def _verify(place: Path, part: Part, name: str) -> dict[str, Any]:
    folder = place / part.folder
    if not folder.is_dir():
        raise RdmError(f"{folder} is not there; `rdm datasets fetch {name}` says how it gets there.")
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    counts = {own: sum(1 for file in _files(folder / own) if file.lower().endswith(part.suffixes)) for own in classes}
    if part.classes is not None and len(classes) != part.classes:
        raise RdmError(f"{folder} has {len(classes)} folders, {name} has {part.classes}; unpack it anew.")
    empty = [own for own, count in counts.items() if not count]
    if empty or not classes:
        what = f"{folder / empty[0]} (and {len(empty) - 1} more) holds" if empty else f"{folder} has no folders with"
        raise RdmError(f"{what} no {' or '.join(part.suffixes)} files; unpack it anew, or remove what is empty.")
    files = sum(counts.values())
    if part.files is not None and files != part.files:
        raise RdmError(f"{folder} has {files} files, {name} has {part.files}; unpack it anew.")
    return {"folder": str(folder), "classes": len(classes), "files": files}


def _files(folder: Path) -> Iterator[str]:
    for _, _, names in os.walk(folder):
        yield from names
