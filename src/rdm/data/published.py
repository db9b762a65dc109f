"""The data sets of the paper: where they come from, under which terms, and what is all of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdm.data import imagenet
from rdm.data.packs import ADM_SAMPLES, Pack
from rdm.errors import UsageError, nearest

HUB = "https://huggingface.co/datasets/"
IMAGES, FRAMES, VIDEOS = (".jpeg", ".jpg", ".png"), (".jpg", ".png"), (".avi",)


@dataclass(frozen=True)
class Part:
    """A folder of a data set. classes: its own folders; files: all below them. None: any number, but not none.

    Without own folders (classes: 0) the files lie in it directly.
    """

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
class Download:
    """A file that may be downloaded without asking. sha256: None where none was published."""

    url: str
    sha256: str | None = None

    @property
    def file(self) -> str:
        """Its name."""
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True)
class Published:
    """A data set that others published, or samples of theirs.

    parts: its folders. archives: its files, which may be there instead. steps: what is left to do by hand.
    """

    what: str
    folder: str  # as params/paper.yaml names it
    gigabytes: float
    licence: str
    parts: tuple[Part | Pack, ...]
    steps: tuple[str, ...]
    downloads: tuple[Download, ...] = ()
    archives: tuple[Archive, ...] = ()

    @property
    def packs(self) -> list[Pack]:
        """Its files that are downloaded into its folder."""
        return [part for part in self.parts if isinstance(part, Pack)]


def _coco(year: int, gigabytes: float, train: int, val: int) -> Published:
    archives = (f"zips/train{year}.zip", f"zips/val{year}.zip", f"annotations/annotations_trainval{year}.zip")
    return Published(
        f"MS-COCO {year}: photographs with five captions each",
        "data/coco",
        gigabytes,
        "of the captions CC BY 4.0; of the images Flickr's terms of use",
        (
            Part(f"train{year}", (".jpg",), 0, train),
            Part(f"val{year}", (".jpg",), 0, val),
            Part("annotations", (f"captions_train{year}.json", f"captions_val{year}.json"), 0, 2),
        ),
        (f"unzip train{year}.zip, val{year}.zip and annotations_trainval{year}.zip in {{folder}}",),
        tuple(Download(f"http://images.cocodataset.org/{archive}") for archive in archives),
    )


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
            Download("https://www.crcv.ucf.edu/data/UCF101/UCF101.rar"),
            Download("https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip"),
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
        (Download(HUB + "maxin-cn/SkyTimelapse/resolve/main/sky_timelapse.zip"),),
    ),
    "taichi-hd": Published(
        "Taichi-HD: videos of Tai Chi at 256x256, as frames",
        "data/taichi-hd",
        107,
        "of the videos, from YouTube, none is stated; the copy at maxin-cn/Taichi-HD is tagged Apache-2.0",
        (Part("frames/train", FRAMES, None, None),),
        (
            "join the parts (`zip -s 0 taichi-256-part.zip --out taichi-256.zip`) and unzip, so that "
            "{folder}/frames/train holds a folder of frames for each video",
        ),
        tuple(
            Download(f"{HUB}maxin-cn/Taichi-HD/resolve/main/taichi-256-part.{suffix}", sha256)
            for suffix, sha256 in {
                "z01": "fc3234ae4020fe8627cebb9fd2cd8fb120d4d8ce575c9bfc7abaf3f842be9138",
                "z02": None,  # has one, too, which was not found
                "z03": "87195e65c7a327ba262c26a9ee7b3cdba624f54b67479834ba272e4d922576ff",
                "z04": "e61103313c72f115ef70c10d72622997a097f156e539d1418b719683c10c4865",
                "zip": "d6255d86ca1fdcac46337d5d450f258800db96fd5c65706b64a77b7cd5accf77",
            }.items()
        ),
    ),
    "coco2014": _coco(2014, 20, 82_783, 40_504),
    "coco2017": _coco(2017, 20, 118_287, 5_000),
    "journeydb": Published(
        "JourneyDB: Midjourney's images with their prompts, and captions by GPT-3.5",
        "data/journeydb",
        6200,
        "JourneyDB's terms of usage: not commercial, not to be passed on, no competing research",
        (
            Part("train", ("train_anno_realease_repath.jsonl",), 0, 1),
            Part("train/imgs", IMAGES, None, 4_189_737),
            Part("valid", ("valid_anno_repath.jsonl",), 0, 1),
            Part("valid/imgs", IMAGES, None, 234_156),
        ),
        (
            "accept the terms at huggingface.co/datasets/JourneyDB/JourneyDB, and download its data/train, data/valid",
            "unpack the annotations' tgz files to {folder}/train/train_anno_realease_repath.jsonl and "
            "{folder}/valid/valid_anno_repath.jsonl",
            "unpack the tgz files of train/imgs and valid/imgs, to {folder}/train/imgs/000/*.jpg and so on",
        ),
    ),
    "adm-samples": Published(
        "ADM's samples of ImageNet 256x256: BigGAN-deep, ADM, ADM-U, ADM-G, 50,000 images each",
        "data/adm-samples",
        39,
        "MIT (of the code; none is stated for the samples)",
        ADM_SAMPLES,
        (),
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
        {"name": n, "what": d.what, "GB": d.gigabytes, "licence": d.licence, "download": _address(d)}
        for n, d in DATASETS.items()
    ]


def _address(dataset: Published) -> str:
    return " ".join([*(d.url for d in dataset.downloads), *(p.url for p in dataset.packs)]) or "by hand"
