"""What all sections of the configuration have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Count", "Model", "Seconds"]

Seconds = Annotated[float, Field(gt=0, le=3600)]
Count = Annotated[int, Field(gt=0)]


class Model(BaseModel):
    """Unknown keys are errors; values are frozen and never quoted in messages."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
