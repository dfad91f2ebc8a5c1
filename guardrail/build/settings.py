"""What the middleware is told, and the laws that take both configuration and policies to check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guardrail.config import Config
from guardrail.config.refusals import RefusalConfig, RefusalRuleConfig
from guardrail.core.policy import Action, Mode, Policy, Stage
from guardrail.core.release import ReleaseMode, StreamRules
from guardrail.engine.lanes import sized
from guardrail.errors import ConfigError
from guardrail.frontends.exchange import Settings
from guardrail.wire.refusals import RefusalRule, Refusals, key_digest
from guardrail.wire.replies import Refusal

__all__ = ["settings_of"]


def settings_of(config: Config, policies: Mapping[Stage, Sequence[Policy]]) -> Settings:
    """Raises ``ConfigError`` where the policies ask for what the configuration rules out."""
    rules = _stream_rules(config)
    if config.input_check == "beside":
        _law_no_redaction(
            policies[Stage.INPUT], "input_check: beside sends the prompt before it was judged", "before"
        )
    if rules.release is ReleaseMode.LIVE:
        _law_no_redaction(
            policies[Stage.OUTPUT], "streaming.release: live sends text before it was judged", "window"
        )
    if rules.release is ReleaseMode.WINDOW:
        _law_room(rules, policies[Stage.OUTPUT])
    return Settings(
        refusals=_refusals(config.refusal),
        streaming=rules,
        keep_alive_s=config.streaming.keep_alive_s,
        max_body_bytes=config.limits.max_body_bytes,
        max_concurrent_requests=config.limits.max_concurrent_requests,
        beside=config.input_check == "beside",
        routes=tuple(route.route() for route in config.routes),
        exempt=tuple(config.paths.exempt),
    )


def _refusals(config: RefusalConfig) -> Refusals:
    def stages(own: RefusalConfig | RefusalRuleConfig) -> dict[Stage, Refusal]:
        asked = {Stage.INPUT: own.input or config.input, Stage.OUTPUT: own.output or config.output}
        return {
            stage: Refusal(one.style, config.message, one.finish_reason, one.status)
            for stage, one in asked.items()
        }

    rules = tuple(
        RefusalRule(stages(rule), frozenset(rule.paths), frozenset(map(key_digest, rule.keys)))
        for rule in config.rules
    )
    return Refusals(stages(config), rules, config.messages)


def _stream_rules(config: Config) -> StreamRules:
    streaming = config.streaming
    return StreamRules(
        release=streaming.release,
        window=streaming.window_chars,
        overlap=streaming.overlap_chars,
        first=streaming.first_window_chars,
        final_check=streaming.final_check,
        max_held=streaming.max_held_chars,
    )


def _law_no_redaction(policies: Sequence[Policy], why: str, instead: str) -> None:
    for policy in policies:
        if policy.mode is Mode.ENFORCE and any(
            rule.action is Action.REDACT for rule in policy.labels.values()
        ):
            raise ConfigError(
                f"{why}, so {policy.id} could redact nothing in it; take it out of these policies or write "
                f"{instead}"
            )


def _law_room(rules: StreamRules, policies: Sequence[Policy]) -> None:
    """What is held in wait for a match must not make the stream stand still."""
    names = frozenset(name for policy in policies for name in policy.detectors)
    needed = sized(rules, names)
    least = needed.window + needed.overlap + needed.unbroken
    if rules.max_held < least:
        raise ConfigError(
            f"streaming.max_held_chars: {rules.max_held} is too little for the detectors of the output "
            f"policies; write {least} or more"
        )
