"""Photographs and pictures with captions, as their authors lay them out: MS-COCO and JourneyDB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rdm.data.images import Source, Split, read_photograph
from rdm.errors import RdmError
from rdm.params.schema import CocoData, JourneyDBData

CAPTIONS = 5  # of each COCO image; a few have one or two more
# the second name is as its authors spell it
JOURNEYDB = {"train": ("train", "train_anno_realease_repath.jsonl"), "test": ("valid", "valid_anno_repath.jsonl")}
Pairs = dict[Path, list[str]]  # image -> its captions


def open_captioned(parameters: CocoData | JourneyDBData) -> Source:
    """Both splits; the held-out one is the validation split. Labels are all 0, as of an unconditional set.

    Raises RdmError if annotations or images are missing or damaged.
    """
    skipped: dict[str, str] = {}
    root, is_coco = Path(parameters.folder), isinstance(parameters, CocoData)
    splits = []
    for split in ("train", "test"):
        pairs = _coco(root, split, parameters.year) if is_coco else _journeydb(root, split, parameters.text, skipped)
        for file in pairs:
            if not file.is_file():
                raise RdmError(f"{file} is not there, and its annotations name it; unpack the images anew.")
        pixels = (read_photograph(file, parameters.image_size) for file in pairs)
        splits.append(Split(pixels, np.zeros(len(pairs), np.int64), list(pairs.values())))
    return Source(
        *splits,
        channels=3,
        classes=[],
        origin=f"local folder {root}",
        licence="of the captions CC BY 4.0, of the images Flickr's terms" if is_coco else "JourneyDB's terms of usage",
        skipped=skipped,
    )


def _coco(root: Path, split: str, year: int) -> Pairs:
    """Images by id; of each the first five captions, by id."""
    part = f"{'train' if split == 'train' else 'val'}{year}"
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


def _journeydb(root: Path, split: str, text: str, skipped: dict[str, str]) -> Pairs:
    """Images in the order of the annotations, without those that lack the text asked for."""
    part, annotations = JOURNEYDB[split]
    file, pairs = root / part / annotations, Pairs()
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
