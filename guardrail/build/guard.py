"""Guards and proxies from a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from guardrail.backends.audit_jsonl import JsonlSink
from guardrail.backends.demo import DemoModel
from guardrail.backends.forward import HttpForwarder
from guardrail.backends.metrics import Metrics
from guardrail.backends.policy_files import load_policies
from guardrail.build.caches import Caches
from guardrail.build.judges import Close, Judges, with_effort
from guardrail.build.presidio import slow_detectors
from guardrail.build.settings import settings_of
from guardrail.config import Config, OnErrorConfig, RedactionConfig, UpstreamConfig, load_config
from guardrail.core.policy import Action, Policy, PolicySet, Stage
from guardrail.core.vault import RedactionRules
from guardrail.engine.check import GuardrailEngine
from guardrail.engine.fail_rules import FailRules
from guardrail.errors import ConfigError
from guardrail.frontends.api import Api
from guardrail.frontends.asgi import ASGIApp
from guardrail.frontends.middleware import GuardrailMiddleware, Settings
from guardrail.frontends.proxy import ProxyApp
from guardrail.ports import AuditSink
from guardrail.wire.policies import Catalogue

__all__ = ["Guard", "build_guard", "build_judges", "build_proxy", "load_guard"]


@dataclass(frozen=True, slots=True)
class Guard:
    """An engine, the settings of its frontends, and what must be closed with them."""

    engine: GuardrailEngine
    settings: Settings
    closers: tuple[Close, ...]
    judges: Judges
    metrics: Metrics | None
    catalogue: Catalogue

    async def aclose(self) -> None:
        """Close connections and files."""
        for close in self.closers:
            await close()


def load_guard(path: str | Path) -> Guard:
    """``build_guard`` from a file. Raises ``ConfigError``."""
    return build_guard(load_config(path))


def build_guard(config: Config) -> Guard:
    """Everything between the frontends and the network. Raises ``ConfigError``."""
    with _naming(config):
        return _guard(config)


def build_judges(config: Config) -> Judges:
    """The classifier alone, over the policies in use. Raises ``ConfigError``."""
    with _naming(config):
        known, policies = _policies(config)
        return _judges(config, known, policies)


def _policies(config: Config) -> tuple[PolicySet, dict[Stage, tuple[Policy, ...]]]:
    """All policies of the directory, and those of each stage."""
    known = PolicySet(
        with_effort(load_policies(config.policies.directory), config.classifier.reasoning_effort)
    )
    return known, {
        Stage.INPUT: _chosen(known, config.policies.input, Stage.INPUT),
        Stage.OUTPUT: _chosen(known, config.policies.output, Stage.OUTPUT),
    }


def _judges(config: Config, known: PolicySet, policies: dict[Stage, tuple[Policy, ...]]) -> Judges:
    used = tuple(dict.fromkeys([*policies[Stage.INPUT], *policies[Stage.OUTPUT]]))
    slow = slow_detectors(config.presidio)
    return Judges(config.classifier, known, used, config.limits.max_concurrent_checks, slow)


def _guard(config: Config) -> Guard:
    known, policies = _policies(config)
    settings = settings_of(config, policies)
    judges = _judges(config, known, policies)
    on_error = _fail_rules(config.on_error, known)
    caches = Caches(config.cache, config.history)
    sinks: list[AuditSink] = [JsonlSink(sink.path, sink.content) for sink in config.audit.sinks]
    closers = [
        judges.aclose,
        caches.aclose,
        *(sink.aclose for sink in sinks if isinstance(sink, JsonlSink)),
    ]
    metrics = Metrics(judges.states) if config.metrics.enabled else None
    if metrics is not None:
        sinks.append(metrics)
    engine = GuardrailEngine(
        policies,
        judges.classifier,
        addable=known,
        cache=caches.verdicts,
        history=caches.history,
        blocked_turns=config.history.blocked_turns,
        last_resort=judges.last_resort,
        sinks=sinks,
        observers=[metrics] if metrics is not None else [],
        on_error=on_error,
        timeout_s=config.classifier.timeout_s,
        trusted_roles=frozenset(config.trusted_roles),
        on_unreadable=Action[config.unreadable.upper()],
        strict=config.strict,
        redaction=_redaction(config.redaction),
    )
    return Guard(engine, settings, tuple(closers), judges, metrics, Catalogue(known, policies))


def build_proxy(config: Config) -> ProxyApp:
    """The whole proxy as one ASGI app. Raises ``ConfigError``."""
    with _naming(config):
        return _proxy(config)


@contextmanager
def _naming(config: Config) -> Iterator[None]:
    """Put the file's name in front of what is wrong with it."""
    try:
        yield
    except ConfigError as error:
        if config.file is None:
            raise
        raise type(error)(f"{config.file}: {error}") from None


def _proxy(config: Config) -> ProxyApp:
    if config.upstream is None:
        raise ConfigError("upstream: is missing; say which chat model is to be guarded")
    guard = _guard(config)
    closers: list[Close] = [guard.aclose]
    upstream = _upstream(config.upstream, closers)
    _law_routes(config)
    guarded = GuardrailMiddleware(upstream, guard.engine, guard.settings)
    api = Api(
        guard.engine,
        guard.settings,
        guard.catalogue,
        frozenset(config.trusted_roles),
        guarded.slots,
        metrics=guard.metrics is not None,
    )
    asked = config.classifier.kind != "embedded"
    return ProxyApp(
        guarded,
        upstream,
        guards=guarded.guards,
        allow=config.paths.allow,
        probe=guard.judges.reachable if asked else None,
        warm=guard.judges.warm if asked and config.classifier.warm_up else None,
        metrics=guard.metrics.render if guard.metrics is not None else None,
        routes=api.routes(),
        closers=closers,
    )


def _chosen(known: PolicySet, ids: list[str], stage: Stage) -> tuple[Policy, ...]:
    chosen = []
    for policy_id in ids:
        policy = _known(known, policy_id, f"policies.{stage.value}")
        if stage not in policy.stages:
            raise ConfigError(
                f"policies.{stage.value}: {policy_id} is not written for this stage; "
                "add it to the policy's stages or remove it here"
            )
        chosen.append(policy)
    return tuple(chosen)


def _known(known: PolicySet, policy_id: str, key: str) -> Policy:
    if policy_id not in known:
        raise ConfigError(
            f"{key}: no policy {policy_id!r} in the directory; "
            f"it holds {', '.join(policy.id for policy in known)}"
        )
    return known[policy_id]


def _upstream(config: UpstreamConfig, closers: list[Close]) -> ASGIApp:
    if config.kind == "demo":
        return DemoModel()
    if config.kind == "litellm":
        from guardrail.backends.litellm_upstream import LiteLLMUpstream

        return LiteLLMUpstream(config.api_key, config.base_url, config.litellm)
    forwarder = HttpForwarder(config.base_url, config.api_key)
    closers.append(forwarder.aclose)
    return forwarder


def _law_routes(config: Config) -> None:
    """What the proxy forwards: requests, and to a server that knows their paths."""
    for index, route in enumerate(config.routes):
        if route.websocket:
            raise ConfigError(
                f"routes.{index}: guardrail serve forwards no WebSocket; use GuardrailMiddleware in the app"
            )
        if config.upstream is None or config.upstream.kind != "openai":
            raise ConfigError(f"routes.{index}: only an upstream of kind openai is asked at this path")


def _redaction(config: RedactionConfig) -> RedactionRules:
    rules = RedactionRules(config.strategy, config.keep_last)
    return replace(rules, key=config.secret.encode()) if config.secret else rules


def _fail_rules(config: OnErrorConfig, known: PolicySet) -> dict[Stage, FailRules]:
    for policy_id in config.policies:
        _known(known, policy_id, "on_error.policies")
    rules = {}
    for stage, fail in ((Stage.INPUT, config.input), (Stage.OUTPUT, config.output)):
        own = {name: getattr(stages, stage.value) for name, stages in config.policies.items()}
        by_policy = {name: FailRules(f.default, f.by_code()) for name, f in own.items() if f is not None}
        rules[stage] = FailRules(fail.default, fail.by_code(), by_policy)
    return rules
