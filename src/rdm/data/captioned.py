"""Photographs and pictures with captions, as their authors lay them out: MS-COCO and JourneyDB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rdm.data.images import Photograph, Source, Split, split_photographs
from rdm.errors import RdmError
from rdm.params.captions import CocoData, JourneyDBData

CAPTIONS = 5  # of each COCO image; a few have one or two more
JOURNEYDB = {"train": "train_anno_realease_repath.jsonl", "valid": "valid_anno_repath.jsonl"}  # as its authors spell it
Pairs = dict[Path, list[str]]  # image -> its captions


def open_captioned(parameters: CocoData | JourneyDBData, threads: int = 1) -> Source:
    """Both splits; the held-out one is the validation split. Labels are all 0, as of an unconditional set.

    threads: so many decode images, in the same order whatever their number.
    Raises RdmError if annotations or images are missing or damaged.
    """
    root, skipped = Path(parameters.folder), dict[str, str]()
    if isinstance(parameters, CocoData):
        licence = "of the captions CC BY 4.0, of the images Flickr's terms of use"
        train, test = (_coco(root, f"{part}{parameters.year}") for part in ("train", "val"))
    else:
        licence = "JourneyDB's terms of usage: not commercial, not to be passed on"
        train, test = (_journeydb(root, part, parameters.text, skipped) for part in JOURNEYDB)
    return Source(
        train=_split(train, parameters.image_size, threads),
        test=_split(test, parameters.image_size, threads),
        channels=3,
        classes=[],
        origin=f"local folder {root}",
        licence=licence,
        skipped=skipped,
    )


def _split(pairs: Pairs, size: int, threads: int) -> Split:
    for file in pairs:
        if not file.is_file():
            raise RdmError(f"{file} is not there, and the annotations name it; unpack the images anew.")
    photographs = [Photograph(str(file), file) for file in pairs]
    return split_photographs(photographs, np.zeros(len(pairs), np.int64), size, threads, list(pairs.values()))


def _coco(root: Path, part: str) -> Pairs:
    """Images by id; of each the first five captions, by id."""
    file = root / "annotations" / f"captions_{part}.json"
    try:
        content = json.loads(_existing(file).read_text(encoding="utf-8"))
        images = {image["id"]: root / part / image["file_name"] for image in content["images"]}
        captions: dict[int, list[str]] = {number: [] for number in sorted(images)}
        for line in sorted(content["annotations"], key=lambda line: line["id"]):
            captions[line["image_id"]].append(_one_line(line["caption"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RdmError(f"{file} is damaged, or no file of COCO captions; unpack it anew.") from None
    for number, found in captions.items():
        if len(found) < CAPTIONS:
            raise RdmError(f"{file}: image {number} has {len(found)} captions, not {CAPTIONS}; unpack it anew.")
    return {images[number]: found[:CAPTIONS] for number, found in captions.items()}


def _journeydb(root: Path, part: str, text: str, skipped: dict[str, str]) -> Pairs:
    """Images in the order of the annotations, without those that lack the text asked for."""
    file, pairs = root / part / JOURNEYDB[part], Pairs()
    with _existing(file).open(encoding="utf-8") as lines:  # several gigabytes
        for number, line in enumerate(lines, 1):
            try:
                found: dict[str, Any] = json.loads(line)
                image = root / part / "imgs" / found["img_path"].removeprefix("./")
                caption = _one_line((found["prompt"] if text == "prompt" else found["Task2"].get("Caption")) or "")
            except (ValueError, KeyError, TypeError, AttributeError):
                raise RdmError(f"{file}: line {number} is damaged; unpack it anew.") from None
            if caption:
                pairs[image] = [caption]
            else:
                skipped[str(image.relative_to(root))] = f"it has no {text}"
    if not pairs:
        raise RdmError(f"{file} names no image with a {text}; unpack it anew.")
    return pairs


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise RdmError(f"{file} is not there; `rdm datasets fetch` says how the data set gets there.")
    return file


def _one_line(caption: str) -> str:
    """Without the line breaks and double spaces that some have."""
    return " ".join(caption.split())
