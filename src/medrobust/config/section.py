"""What all sections of a configuration have in common: no unknown fields, no changes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A mapping of fields in a run.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)
