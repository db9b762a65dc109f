"""The base of all parameter objects."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of all parameter objects: immutable, and nothing that is not declared gets in."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
