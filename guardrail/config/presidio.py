"""The section ``presidio`` of ``guardrail.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from guardrail.config.model import Model

__all__ = ["PresidioConfig"]


class PresidioConfig(Model):
    """Detectors ``presidio.*`` for policies to name; needs the extra ``guardrail[presidio]``."""

    model: Annotated[str, Field(min_length=1)] = Field(
        description="A spaCy pipeline that is installed, such as en_core_web_lg, or the folder of one."
    )
