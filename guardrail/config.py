"""``guardrail.yaml`` as frozen models: the shape only. ``build.py`` makes objects of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from guardrail.backends.policy_files import describe, load_yaml
from guardrail.backends.presets import PRESETS
from guardrail.core.policy import FailMode
from guardrail.errors import ConfigError, FailureCode

__all__ = [
    "AuditSinkConfig",
    "ClassifierConfig",
    "Config",
    "OnErrorConfig",
    "RefusalConfig",
    "UpstreamConfig",
    "load_config",
]

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_QUOTED: Final = re.compile(r" '(?!<)[^']{2,}'")
PresetName = Literal["vllm", "ollama", "openrouter", "generic"]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Count = Annotated[int, Field(gt=0)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ServerConfig(_Model):
    """Where the proxy listens."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080


class UpstreamConfig(_Model):
    """The guarded chat model."""

    kind: Literal["openai", "litellm", "demo"] = "openai"
    base_url: str = Field(
        default="",
        description="OpenAI-compatible API, up to and including /v1; needed for kind openai.",
    )
    api_key: str = Field(
        default="", repr=False, description="Empty: the caller's own Authorization is forwarded."
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


class ClassifierConfig(_Model):
    """Who judges."""

    kind: Literal["judge", "litellm", "embedded"] = "judge"
    preset: PresetName = Field(default="generic", description="The kind of server; see presets.py.")
    base_url: str = Field(default="", description="Empty: the preset's usual address.")
    model: str = Field(default="openai/gpt-oss-safeguard-20b", description="As the server names it.")
    api_key: str = Field(default="", repr=False, description="Sent to the judge only.")
    reasoning_effort: Literal["low", "medium", "high"] | None = Field(
        default=None, description="For every policy, instead of the effort in its front matter."
    )
    max_tokens: Annotated[int, Field(ge=256)] = Field(
        default=2048,
        description="Reasoning and answer together; too low a limit cuts verdicts off.",
    )
    timeout_s: Seconds = Field(default=5.0, description="Deadline of one check, retries included.")


class PoliciesConfig(_Model):
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


class FailConfig(_Model):
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


class OnErrorConfig(_Model):
    """What happens when a check cannot be made: ``open`` or ``closed``, or one per error class.

    Failures of class ``auth`` are always closed.
    """

    input: _Fail = FailConfig()
    output: _Fail = FailConfig()


class StreamingConfig(_Model):
    """How streamed text is held until it was judged, in characters."""

    release: Literal["window", "whole"] = Field(
        default="window", description="whole: nothing leaves before the end of the answer."
    )
    window_chars: Annotated[int, Field(ge=50)] = Field(
        default=400, description="How much new text asks for a check."
    )
    overlap_chars: Annotated[int, Field(ge=0)] = Field(
        default=120, description="A violation no longer than this never leaves, not even in part."
    )
    max_held_chars: Annotated[int, Field(ge=1000)] = Field(
        default=16_384, description="Past this, reading from the upstream waits."
    )

    @model_validator(mode="after")
    def _law_room(self) -> StreamingConfig:
        if self.max_held_chars < self.window_chars + self.overlap_chars:
            raise ValueError("max_held_chars must hold one window and one overlap")
        return self


class CacheConfig(_Model):
    """Verdicts remembered in process. ``max_entries: 0`` turns it off."""

    max_entries: Annotated[int, Field(ge=0)] = 10_000
    ttl_s: Annotated[float, Field(gt=0)] = Field(default=600.0, description="Seconds.")


class RefusalStage(_Model):
    """How a block of one stage looks to the client."""

    style: Literal["completion", "error"] = Field(
        default="completion", description="A normal answer that refuses, or an HTTP error."
    )
    finish_reason: Literal["content_filter", "stop"] = Field(
        default="content_filter",
        description="Of a refused completion. SDK parse helpers raise on content_filter.",
    )
    status: Annotated[int, Field(ge=400, le=499)] = Field(default=400, description="For style error.")


class RefusalConfig(_Model):
    """Refusals."""

    input: RefusalStage = RefusalStage()
    output: RefusalStage = RefusalStage()
    message: Annotated[str, Field(min_length=1)] = Field(
        default="I can't help with that.", description="What a refusal says."
    )


class AuditSinkConfig(_Model):
    """One sink of decision records."""

    kind: Literal["jsonl"]
    path: Path
    content: Literal["none", "fingerprint", "full"] = Field(
        default="fingerprint", description="What is kept of the judged text."
    )


class AuditConfig(_Model):
    """Where decisions are recorded."""

    sinks: list[AuditSinkConfig] = Field(default_factory=list)


class LimitsConfig(_Model):
    """Upper bounds."""

    max_body_bytes: Count = Field(default=1_048_576, description="Of a request; more is 413.")
    max_concurrent_requests: Count = Field(default=512, description="Guarded ones; more is 503.")
    max_concurrent_checks: Count = Field(default=64, description="Calls to the judge; more wait.")


class PathsConfig(_Model):
    """Paths that are forwarded without a guard."""

    allow: list[str] = Field(default_factory=list, description="Exact paths, or prefixes that end in *.")

    @model_validator(mode="after")
    def _law_absolute(self) -> PathsConfig:
        for path in self.allow:
            if not path.startswith("/"):
                raise ValueError(f"allow: {path!r} does not begin with /")
        return self


class Config(_Model):
    """The whole file."""

    _file: Path | None = PrivateAttr(default=None)

    version: Literal[1]
    server: ServerConfig = ServerConfig()
    upstream: UpstreamConfig | None = Field(default=None, description="Needed by guardrail serve.")
    classifier: ClassifierConfig = ClassifierConfig()
    policies: PoliciesConfig
    on_error: OnErrorConfig = OnErrorConfig()
    streaming: StreamingConfig = StreamingConfig()
    cache: CacheConfig = CacheConfig()
    refusal: RefusalConfig = RefusalConfig()
    audit: AuditConfig = AuditConfig()
    limits: LimitsConfig = LimitsConfig()
    paths: PathsConfig = PathsConfig()
    unreadable: Literal["block", "flag", "pass"] = Field(
        default="flag", description="What happens to images, audio and other parts nobody can read."
    )
    strict: bool = Field(default=False, description="Block whatever is not judged.")
    trusted_roles: list[str] = Field(
        default=["system", "developer"],
        description="Roles whose leading turns are context, not judged.",
    )

    @property
    def file(self) -> Path | None:
        """Where it was read from, for messages; None for one made in code."""
        return self._file


assert set(PresetName.__args__) == set(PRESETS)  # type: ignore[attr-defined]  # noqa: S101


def load_config(path: str | Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read, interpolate and validate one file; relative paths in it are relative to it.

    Raises ``ConfigError`` that names the file, the key and the remedy, never a value.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        value = load_yaml(text)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is no UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: is no YAML: {_found(error, text)}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{file}: is no mapping; begin with 'version: 1'")
    variables = os.environ if environ is None else environ
    try:
        config = Config.model_validate(_interpolate(value, variables, ""))
    except _Unset as error:
        raise ConfigError(
            f"{file}: {error.key}: the environment variable {error.name} is not set; "
            f"set it or write ${{{error.name}:-default}}"
        ) from None
    except ValidationError as error:
        raise ConfigError(f"{file}: {describe(error)}") from None
    config = _anchored(config, file.resolve().parent)
    config._file = file  # noqa: SLF001 - no key of the file
    return config


def _found(error: yaml.YAMLError, text: str) -> str:
    """PyYAML's finding and its line, without the piece of the file that it quotes (it may be a secret)."""
    if isinstance(error, yaml.reader.ReaderError):
        return f"line {text.count(chr(10), 0, error.position) + 1}: {error.reason}"
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return type(error).__name__
    mark, problem = error.problem_mark, error.problem or ""
    if "stands twice" not in problem:  # our own finding names a key; PyYAML's may quote an alias or a tag
        problem = _QUOTED.sub("", problem)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


class _Unset(Exception):
    def __init__(self, key: str, name: str) -> None:
        self.key = key
        self.name = name


def _interpolate(value: Any, variables: Mapping[str, str], key: str) -> Any:
    if isinstance(value, dict):
        return {k: _interpolate(v, variables, f"{key}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [_interpolate(v, variables, f"{key}[{i}]") for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        found = variables.get(match[1])
        if found or match[2] is None:
            if found is None:
                raise _Unset(key, match[1])
            return found
        return match[2]

    return _VARIABLE.sub(replace, value)


def _anchored(config: Config, folder: Path) -> Config:
    policies = config.policies.model_copy(update={"directory": folder / config.policies.directory})
    sinks = [s.model_copy(update={"path": folder / s.path}) for s in config.audit.sinks]
    audit = config.audit.model_copy(update={"sinks": sinks})
    return config.model_copy(update={"policies": policies, "audit": audit})
