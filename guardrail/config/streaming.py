"""The section ``streaming`` of ``guardrail.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from guardrail.config.model import Model
from guardrail.core.release import ReleaseMode

__all__ = ["StreamingConfig"]


class StreamingConfig(Model):
    """How streamed text is held until it was judged, in characters."""

    release: ReleaseMode = Field(
        default=ReleaseMode.WINDOW,
        description="whole: nothing leaves before the end of the answer. window: text leaves when it and "
        "what follows it was judged. live: text leaves at once and is judged beside that; a finding ends "
        "the stream.",
    )
    window_chars: Annotated[int, Field(ge=50)] = Field(
        default=400, description="How much new text asks for a check."
    )
    first_window_chars: Annotated[int, Field(ge=1)] = Field(
        default=40, description="How much text beyond the overlap asks for the first check."
    )
    overlap_chars: Annotated[int, Field(ge=0)] = Field(
        default=120,
        description="A violation no longer than this never leaves, not even in part. Raised to what the "
        "detectors of the output policies need.",
    )
    max_held_chars: Annotated[int, Field(ge=1000)] = Field(
        default=16_384, description="Of one choice; past this, reading from the upstream waits."
    )
    final_check: bool = Field(
        default=False, description="Read the whole answer once more before its end leaves."
    )
    keep_alive_s: Annotated[float, Field(gt=0)] = Field(
        default=15.0, description="How often a comment is sent while text is held, in seconds."
    )

    @model_validator(mode="after")
    def _law_room(self) -> StreamingConfig:
        if self.max_held_chars < self.window_chars + self.overlap_chars:
            raise ValueError("max_held_chars must hold one window and one overlap")
        return self
