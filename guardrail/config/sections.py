"""The other sections of ``guardrail.yaml``, and the whole; each law is a validator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from guardrail.config.classifier import ClassifierConfig
from guardrail.config.model import Count, Model
from guardrail.config.presidio import PresidioConfig
from guardrail.config.refusals import RefusalConfig
from guardrail.config.routes import RouteConfigs
from guardrail.config.streaming import StreamingConfig
from guardrail.core.policy import FailMode, Strategy
from guardrail.errors import FailureCode

__all__ = [
    "AuditSinkConfig",
    "CacheConfig",
    "Config",
    "FailConfig",
    "HistoryConfig",
    "OnErrorConfig",
    "PoliciesConfig",
    "RedactionConfig",
    "UpstreamConfig",
]


class ServerConfig(Model):
    """Where the proxy listens."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080


class UpstreamConfig(Model):
    """The guarded chat model."""

    kind: Literal["openai", "litellm", "demo"] = "openai"
    base_url: str = Field(
        default="",
        description="OpenAI-compatible API, up to and including /v1; needed for kind openai.",
    )
    api_key: str = Field(
        default="",
        repr=False,
        description="Empty: the caller's own Authorization or x-api-key is forwarded.",
    )
    litellm: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="Arguments for every LiteLLM call, such as api_base."
    )

    @model_validator(mode="after")
    def _law_address(self) -> UpstreamConfig:
        if self.kind == "openai" and not self.base_url.startswith(("http://", "https://")):
            raise ValueError("kind openai needs a base_url that begins with http:// or https://")
        if self.kind != "litellm" and self.litellm:
            raise ValueError("litellm holds arguments for kind litellm only; remove it")
        return self


class PoliciesConfig(Model):
    """Which policies judge which stage."""

    directory: Path = Field(default=Path("policies"), description="Holds <id>/policy.md.")
    input: list[str] = Field(default=[], description="Ids of the policies that judge prompts.")
    output: list[str] = Field(default=[], description="Ids of the policies that judge answers.")

    @model_validator(mode="after")
    def _law_some(self) -> PoliciesConfig:
        if not self.input and not self.output:
            raise ValueError("name at least one policy under input or output")
        for stage, ids in (("input", self.input), ("output", self.output)):
            if len(set(ids)) != len(ids):
                raise ValueError(f"{stage} names a policy twice")
        return self


def _shorthand(value: object) -> object:
    return {"default": value} if isinstance(value, str) else value


class FailConfig(Model):
    """Fail mode by class of failure; ``default`` for all that are not named."""

    default: FailMode = FailMode.CLOSED
    timeout: FailMode | None = None
    rate_limited: FailMode | None = None
    unavailable: FailMode | None = None
    malformed: FailMode | None = None
    truncated: FailMode | None = None
    too_long: FailMode | None = None
    overloaded: FailMode | None = None
    internal: FailMode | None = None

    def by_code(self) -> dict[FailureCode, FailMode]:
        """The classes that are named."""
        named = self.model_dump(exclude={"default"}, exclude_none=True)
        return {FailureCode(code): mode for code, mode in named.items()}


_Fail = Annotated[FailConfig, BeforeValidator(_shorthand, json_schema_input_type=FailMode | FailConfig)]


class OnErrorStages(Model):
    """The fail modes of one policy, where they differ."""

    input: _Fail | None = None
    output: _Fail | None = None


class OnErrorConfig(Model):
    """What happens when a check cannot be made: ``open`` or ``closed``, or one per error class.

    Failures of class ``auth`` are always closed.
    """

    input: _Fail = FailConfig()
    output: _Fail = FailConfig()
    policies: dict[str, OnErrorStages] = Field(
        default_factory=dict, description="By policy id: input and output as above, for this policy alone."
    )


class RedactionConfig(Model):
    """What is put in the place of what is redacted."""

    strategy: Strategy = Field(
        default=Strategy.REPLACE,
        description="For labels that name none: replace by [REDACTED:<label>]; mask; hash; or placeholder, "
        "which is restored in the model's answer.",
    )
    keep_last: Annotated[int, Field(ge=0, le=8)] = Field(
        default=4, description="How many characters a mask leaves to be read."
    )
    secret: str = Field(
        default="",
        repr=False,
        description="Keys hashes and placeholders, so that they are the same in every process and after a "
        "restart. Empty: a random one per process.",
    )

    @model_validator(mode="after")
    def _law_secret(self) -> RedactionConfig:
        if self.secret and len(self.secret) < 16:
            raise ValueError("secret must have at least 16 characters, else hashes can be guessed back")
        return self


class CacheConfig(Model):
    """Verdicts remembered in process, and in Redis where there is one. ``max_entries: 0`` turns it off."""

    max_entries: Annotated[int, Field(ge=0)] = 10_000
    ttl_s: Annotated[float, Field(gt=0)] = Field(default=600.0, description="Seconds.")
    redis_url: str = Field(
        default="", repr=False, description="redis:// or rediss://; shares verdicts between processes."
    )
    redis_timeout_s: Annotated[float, Field(gt=0, le=5)] = Field(
        default=0.05, description="Longer than this, and Redis is done without."
    )
    secret: str = Field(
        default="",
        repr=False,
        description="Signs what goes into Redis, so that nobody else can write a verdict there.",
    )

    @model_validator(mode="after")
    def _law_redis(self) -> CacheConfig:
        if self.redis_url and not self.redis_url.startswith(("redis://", "rediss://")):
            raise ValueError("redis_url must begin with redis:// or rediss://")
        if self.secret and not self.redis_url:
            raise ValueError("secret signs what goes into Redis; give redis_url or remove it")
        return self


class HistoryConfig(Model):
    """Turns that were judged before are not judged again. ``max_entries: 0`` turns it off."""

    max_entries: Annotated[int, Field(ge=0)] = 100_000
    ttl_s: Annotated[float, Field(gt=0)] = Field(default=3600.0, description="Seconds.")
    blocked_turns: Literal["drop", "block"] = Field(
        default="drop",
        description="drop: a blocked turn and its refusal are left out; block: the chat stays blocked.",
    )


class MetricsConfig(Model):
    """``GET /metrics`` for Prometheus."""

    enabled: bool = True


class AuditSinkConfig(Model):
    """One sink of decision records."""

    kind: Literal["jsonl"]
    path: Path
    content: Literal["none", "fingerprint", "full"] = Field(
        default="fingerprint", description="What is kept of the judged text."
    )


class AuditConfig(Model):
    """Where decisions are recorded."""

    sinks: list[AuditSinkConfig] = Field(default_factory=list)


class LimitsConfig(Model):
    """Upper bounds."""

    max_body_bytes: Count = Field(default=1_048_576, description="Of a request; more is 413.")
    max_concurrent_requests: Count = Field(default=512, description="Guarded ones; more is 503.")
    max_concurrent_checks: Count = Field(
        default=64, description="Calls to one endpoint of the judge at once; the limit adapts below this."
    )


class PathsConfig(Model):
    """Paths that are not guarded."""

    allow: list[str] = Field(
        default_factory=list,
        description="What the proxy forwards without a guard: exact paths, or prefixes that end in *.",
    )
    exempt: list[str] = Field(
        default_factory=list,
        description="What only ends like the API of a model, such as /rooms/*/messages: the middleware "
        "leaves it to the app. * is one segment.",
    )

    @model_validator(mode="after")
    def _law_absolute(self) -> PathsConfig:
        for key, paths in (("allow", self.allow), ("exempt", self.exempt)):
            for path in paths:
                if not path.startswith("/"):
                    raise ValueError(f"{key}: {path!r} does not begin with /")
        return self


class Config(Model):
    """The whole file."""

    _file: Path | None = PrivateAttr(default=None)

    version: Literal[1]
    server: ServerConfig = ServerConfig()
    upstream: UpstreamConfig | None = Field(default=None, description="Needed by guardrail serve.")
    classifier: ClassifierConfig = ClassifierConfig()
    policies: PoliciesConfig
    presidio: PresidioConfig | None = None
    on_error: OnErrorConfig = OnErrorConfig()
    streaming: StreamingConfig = StreamingConfig()
    redaction: RedactionConfig = RedactionConfig()
    cache: CacheConfig = CacheConfig()
    history: HistoryConfig = HistoryConfig()
    refusal: RefusalConfig = RefusalConfig()
    audit: AuditConfig = AuditConfig()
    metrics: MetricsConfig = MetricsConfig()
    limits: LimitsConfig = LimitsConfig()
    paths: PathsConfig = PathsConfig()
    routes: RouteConfigs = Field(
        default_factory=list, description="Guarded paths that are not OpenAI-shaped; see docs/routes.md."
    )
    input_check: Literal["before", "beside"] = Field(
        default="before",
        description="beside: the model is asked while the prompt is being judged, which saves the wait for "
        "one check; a prompt that is blocked has then been seen by it. Nothing of its answer leaves.",
    )
    unreadable: Literal["block", "flag", "pass"] = Field(
        default="flag", description="What happens to images, audio and other parts nobody can read."
    )
    strict: bool = Field(
        default=False,
        description="Block whatever is not judged: images, tool definitions, JSON schemas, "
        "previous_response_id, fields that nobody knows.",
    )
    trusted_roles: list[str] = Field(
        default=["system", "developer"],
        description="Roles whose leading turns are context, not judged.",
    )

    @property
    def file(self) -> Path | None:
        """Where it was read from, for messages; None for one made in code."""
        return self._file
