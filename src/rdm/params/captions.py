"""Data sets whose images have captions in the place of labels, as typed, frozen objects."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from rdm.params.section import Section


class CocoData(Section):
    """MS-COCO with captions: `folder/{train,val}YEAR/`, `folder/annotations/captions_{train,val}YEAR.json`; ADM's crop.

    Each image has its first five captions.
    """

    source: Literal["coco"]
    image_size: PositiveInt
    folder: str
    stored: bool = True  # see FolderData
    year: Literal[2014, 2017]

    @property
    def labelled(self) -> bool:
        """It has captions in the place of labels."""
        return False


class JourneyDBData(Section):
    """JourneyDB, Midjourney's images: `folder/{train,valid}/imgs/`, and jsonl files of annotations; ADM's crop."""

    source: Literal["journeydb"]
    image_size: PositiveInt
    folder: str
    stored: bool = True  # see FolderData
    text: Literal["prompt", "caption"]  # what Midjourney was given, or what GPT-3.5 made of it

    @property
    def labelled(self) -> bool:
        """It has captions in the place of labels."""
        return False
