"""Index ranges: the share of one of several independent jobs, written I/N and counted from 1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rdm.errors import UsageError


def items_in(shards: Mapping[Path, range]) -> int:
    """How many items there are in these shards, each a range of indices."""
    return sum(map(len, shards.values()))


class Part(NamedTuple):
    """The `number`-th of `of` parts."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> Part:
        """From I/N. Raises UsageError for what is no such part."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if match is None:
            raise UsageError(f"--part {text}: give I/N, such as 1/4.")
        number, of = int(match[1]), int(match[2])
        if not 1 <= number <= of:
            raise UsageError(f"--part {text}: parts are numbered from 1 to {of}.")
        return cls(number, of)

    def share(self, units: int) -> range:
        """Which of so many units are this part's: none, if there are more parts than units."""
        return range(units * (self.number - 1) // self.of, units * self.number // self.of)
