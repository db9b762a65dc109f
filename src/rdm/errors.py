"""Everything that can go wrong for a reason the user can mend. Each message says what is wrong and what to do next.

RdmError               exit code 1: the work could not be done
├── ArtefactError      a file of an earlier stage is missing, damaged or was made with other parameters
│   └── MissingError       it is not there yet
├── UsageError         exit code 2: what was asked for does not exist or makes no sense
│   └── ParameterError     a parameter file is wrong
└── LostClaimError     exit code 3: a claim that a committed result supported no longer is
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RdmError(Exception):
    """The work could not be done; the message is one sentence plus a remedy."""

    exit_code = 1


class ArtefactError(RdmError):
    """A file of an earlier stage is missing, damaged, or was made with other parameters."""


class MissingError(ArtefactError):
    """A file of an earlier stage is not there yet."""


class UsageError(RdmError):
    """What was asked for does not exist or makes no sense."""

    exit_code = 2


class ParameterError(UsageError):
    """A parameter file holds an unknown key, a missing key or an impossible value."""


class LostClaimError(RdmError):
    """A claim of the paper that a committed result supported no longer is."""

    exit_code = 3


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown `name`: the nearest known name, or all of them (of many, some)."""
    known = sorted(filter(None, known))
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    more = f" (and {len(known) - 20} more)" if len(known) > 20 else ""
    return f"choose one of: {', '.join(known[:20]) or '(none)'}{more}."
