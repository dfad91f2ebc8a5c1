"""The section ``refusal`` of ``guardrail.yaml``."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from guardrail.config.model import Model

__all__ = ["RefusalConfig", "RefusalRuleConfig", "RefusalStage"]

_RETRIED: Final = (408, 409, 429)  # by the SDKs of OpenAI and Anthropic: ``_should_retry`` of their clients


def _law_not_retried(status: int) -> int:
    if status in _RETRIED:
        raise ValueError(
            "SDKs ask again after 408, 409 and 429, and a refusal is final; write another one, such as 400"
        )
    return status


_Status = Annotated[
    int,
    Field(ge=400, le=499, json_schema_extra={"not": {"enum": [*_RETRIED]}}),
    AfterValidator(_law_not_retried),
]
_Words = Annotated[str, StringConstraints(min_length=1)]
_Path = Annotated[str, StringConstraints(pattern=r"^/.*[^/]$")]
_Language = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", to_lower=True)]


class RefusalStage(Model):
    """How a block of one stage looks to the client."""

    style: Literal["completion", "error"] = Field(
        default="completion", description="A normal answer that refuses, or an HTTP error."
    )
    finish_reason: Literal["content_filter", "stop"] = Field(
        default="content_filter",
        description="Of a refused completion. SDK parse helpers raise on content_filter.",
    )
    status: _Status = Field(
        default=400, description="For style error. None that SDKs retry: not 408, 409, 429."
    )


class RefusalRuleConfig(Model):
    """Other refusals for some requests; the first rule that fits a request decides."""

    paths: list[_Path] = Field(
        default_factory=list, description="Whole paths, such as /v1/embeddings; none: all of them."
    )
    keys: list[_Words] = Field(
        default_factory=list,
        repr=False,
        description="API keys of callers, better from the environment; none: whatever key.",
    )
    input: RefusalStage | None = Field(default=None, description="Empty: as for all requests.")
    output: RefusalStage | None = Field(default=None, description="Empty: as for all requests.")


class RefusalConfig(Model):
    """Refusals."""

    input: RefusalStage = RefusalStage()
    output: RefusalStage = RefusalStage()
    message: _Words = Field(
        default="I can't help with that.",
        description="What a refusal says, where the policy that blocks has no words of its own.",
    )
    messages: dict[_Language, _Words] = Field(
        default_factory=dict,
        description="The same by language, for clients whose Accept-Language likes it best: {de: ...}.",
    )
    rules: list[RefusalRuleConfig] = Field(default_factory=list)
