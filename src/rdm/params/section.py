"""The base of all parameter objects."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class Section(BaseModel):
    """Base of all parameter objects: immutable, and nothing that is not declared gets in."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def by_weights(section: Any) -> str:
    """Which of two sections is meant: what is published names its weights."""
    named = "weights" in section if isinstance(section, dict) else hasattr(section, "weights")
    return "<published>" if named else "<trained>"
