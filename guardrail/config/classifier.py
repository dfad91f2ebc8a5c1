"""The section ``classifier``: who judges, and what is done when he cannot."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from guardrail.backends.presets import PRESETS
from guardrail.config.model import Count, Model, Seconds

__all__ = ["ClassifierConfig", "EscalationConfig", "JudgeConfig", "PricesConfig"]


def _known_preset(name: str) -> str:
    if name not in PRESETS:
        raise ValueError(f"is none of {', '.join(PRESETS)}")
    return name


PresetName = Annotated[str, AfterValidator(_known_preset), Field(json_schema_extra={"enum": list(PRESETS)})]
Price = Annotated[float, Field(ge=0)]


class PricesConfig(Model):
    """What the judge costs, in US dollars per million tokens."""

    prompt: Price
    completion: Price
    cached: Price | None = Field(default=None, description="Of a prompt token that was cached.")


class JudgeConfig(Model):
    """One judge: where it is and how it is asked."""

    kind: Literal["judge", "litellm"] = "judge"
    preset: PresetName = Field(
        default="generic", description="The kind of server; see docs/judge-servers.md."
    )
    base_url: str | list[str] = Field(
        default="",
        description="Empty: the preset's usual address. A list: replicas of one judge.",
    )
    model: str = Field(default="openai/gpt-oss-safeguard-20b", description="As the server names it.")
    api_key: str = Field(default="", repr=False, description="Sent to the judge only.")
    reasoning_effort: Literal["low", "medium", "high"] | None = Field(
        default=None, description="For every policy, instead of the effort in its front matter."
    )
    max_tokens: Annotated[int, Field(ge=256)] = Field(
        default=2048,
        description="Reasoning and answer together; too low a limit cuts verdicts off.",
    )
    context_tokens: Annotated[int, Field(ge=2048)] | None = Field(
        default=None,
        description="The server's window; longer content is judged in chunks. Empty: the preset's.",
    )
    json_mode: bool = Field(
        default=False, description="Let the server enforce JSON, where the preset has a way to ask for it."
    )
    prices: PricesConfig | None = Field(default=None, description="Empty: the preset's.")

    @model_validator(mode="after")
    def _law_addresses(self) -> JudgeConfig:
        if isinstance(self.base_url, list):
            if self.kind == "litellm":
                raise ValueError("base_url is one address for kind litellm")
            if not self.base_url or len(set(self.base_url)) != len(self.base_url):
                raise ValueError("base_url is an empty list or names an address twice")
        return self


class EscalationConfig(JudgeConfig):
    """Who is asked again about labels with ``escalate: true``.

    With ``reasoning_effort`` alone: the same judge with more effort. With an address or a model of its
    own: another judge.
    """

    model: str = Field(default="", description="Empty: the same judge.")

    @model_validator(mode="after")
    def _law_difference(self) -> EscalationConfig:
        if self.model or (self.reasoning_effort and self.model_fields_set == {"reasoning_effort"}):
            return self
        raise ValueError("name the model of another judge, or reasoning_effort alone for the same one")


class BreakerConfig(Model):
    """When an endpoint that fails is left alone."""

    failures: Count = Field(default=5, description="So many in a row open the breaker.")
    open_s: Seconds = Field(default=5.0, description="How long it rests before one call tries it again.")


class HedgeConfig(Model):
    """A second request when the first one is slow."""

    quantile: Annotated[float, Field(ge=0.5, lt=1)] = Field(
        default=0.95, description="Of the latencies seen: later than this is slow."
    )
    floor_s: Seconds = Field(default=0.25, description="Never earlier than this.")


class ClassifierConfig(JudgeConfig):
    """Who judges."""

    kind: Literal["judge", "litellm", "embedded"] = "judge"  # type: ignore[assignment]  # one kind more
    timeout_s: Seconds = Field(default=5.0, description="Deadline of one check, retries included.")
    warm_up: bool = Field(
        default=True, description="Ask each replica once under each policy before /readyz says ok."
    )
    breaker: BreakerConfig = BreakerConfig()
    hedge: HedgeConfig | None = Field(default=None, description="Off unless given.")
    escalation: EscalationConfig | None = Field(
        default=None, description="Asked again about labels with escalate: true."
    )
    fallback: JudgeConfig | None = Field(
        default=None, description="Asked when the judge cannot be, inside the same deadline."
    )
