"""From the section ``classifier`` to one Classifier.

Cascade ── prefilter, detectors beside the judge, escalation
└── Fallback ── the judge, then another one
    └── Chunked ── long content in pieces
        └── Replicas ── breaker, limit and hedge around each endpoint
            └── JudgeClassifier or LiteLLMClassifier
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

import anyio

from guardrail.backends.embedded import (
    DetectorClassifier,
    EmbeddedClassifier,
    QuickClassifier,
    SlowDetectors,
)
from guardrail.backends.judge import JudgeClassifier, JudgeSettings
from guardrail.backends.judge_requests import system_text
from guardrail.backends.presets import PRESETS, Preset
from guardrail.backends.prices import Prices
from guardrail.config import ClassifierConfig, EscalationConfig, JudgeConfig
from guardrail.core.chunks import tokens
from guardrail.core.policy import Effort, Policy, PolicySet
from guardrail.engine.breaker import Breaker
from guardrail.engine.cascade import Cascade, WithEffort
from guardrail.engine.chunked import Chunked
from guardrail.engine.endpoint import Endpoint, EndpointState
from guardrail.engine.fallback import Fallback
from guardrail.engine.hedge import Hedge
from guardrail.engine.limit import ConcurrencyLimit
from guardrail.engine.replicas import Replicas
from guardrail.errors import ConfigError
from guardrail.ports import Classifier

__all__ = ["Close", "Judges", "with_effort"]

Close = Callable[[], Awaitable[None]]
TRIES_EACH: Final = 2  # with replicas, the next one's turn is worth more than a third try
TEMPLATE_TOKENS: Final = 120  # what the chat template puts around the messages
LEAST_ROOM: Final = 300  # tokens for the user message; with less hardly a sentence could be judged

_log = logging.getLogger("guardrail.build")


class Judges:
    """Builds the chain, and keeps what stands at its end. Raises ``ConfigError``.

    ``known`` are all policies, ``used`` those that a stage names; ``ceiling`` is the most calls at once
    to one endpoint; ``slow`` are detectors beside the catalogue's.
    """

    def __init__(
        self,
        config: ClassifierConfig,
        known: PolicySet,
        used: Sequence[Policy],
        ceiling: int,
        slow: SlowDetectors | None = None,
    ) -> None:
        self._config = config
        self._ceiling = ceiling
        self.used = used
        self._warm: list[tuple[Replicas, Sequence[Policy]]] = []
        self._probed: list[JudgeClassifier | None] = []  # who can give a verdict; None cannot be probed
        self.judges: list[JudgeClassifier] = []
        """Every judge over HTTP, replicas, fallback and escalation included."""
        self.classifier: Classifier
        self.last_resort: Classifier | None = None
        """Asked behind the deadline, so without slow detectors."""
        if config.kind == "embedded":
            self.classifier = EmbeddedClassifier(known, slow)
        else:
            self.classifier = self._cascade(DetectorClassifier(known, slow))
            self.last_resort = QuickClassifier(known, slow)

    def _cascade(self, finder: DetectorClassifier) -> Cascade:
        config = self._config
        replicas, judge = self._judge(config, "", self.used)
        escalation = self._escalation(config.escalation, replicas, judge)
        if config.fallback is not None:
            judge = Fallback(judge, self._fallback(config.fallback))
        return Cascade(finder, judge, escalation=escalation)

    def _fallback(self, config: JudgeConfig) -> Classifier:
        asked = with_effort(self.used, config.reasoning_effort)
        return _asked_with(self._judge(config, "fallback ", asked)[1], config.reasoning_effort)

    def _escalation(
        self, config: EscalationConfig | None, replicas: Replicas, judge: Classifier
    ) -> Classifier | None:
        if config is None:
            return None
        escalating = [p for p in self.used if any(rule.escalate for rule in p.labels.values())]
        asked = with_effort(escalating, config.reasoning_effort)
        if config.model:
            judge = self._judge(config, "escalation ", asked)[1]
        else:
            self._warm.append((replicas, asked))
        return _asked_with(judge, config.reasoning_effort)

    def _judge(
        self, config: JudgeConfig, role: str, warmed: Sequence[Policy]
    ) -> tuple[Replicas, Classifier]:
        """One judge on all its endpoints; ``role`` tells them from those of another."""
        settings = _settings(config, self._ceiling)
        if config.kind == "litellm":
            from guardrail.backends.litellm import LiteLLMClassifier

            own: list[LiteLLMClassifier | JudgeClassifier] = [LiteLLMClassifier(settings[0])]
        else:
            judges = [JudgeClassifier(one) for one in settings]
            self.judges += judges
            own = [*judges]
        if role != "escalation ":
            self._probed += [judge if isinstance(judge, JudgeClassifier) else None for judge in own]
        window = min(judge.context_tokens for judge in own) - config.max_tokens - TEMPLATE_TOKENS
        room = _Room(window, settings[0].preset.at(settings[0].base_url))
        for policy in warmed:
            if room(policy) < LEAST_ROOM:
                raise ConfigError(
                    f"classifier.context_tokens: the {role or 'judge '}has {room(policy)} tokens left "
                    f"for a text under policy {policy.id}; give it a larger window or less max_tokens"
                )
        replicas = Replicas(
            [self._endpoint(role + judge.name, judge) for judge in own], hedge=self._hedge()
        )
        self._warm.append((replicas, warmed))
        return replicas, Chunked(replicas, room)

    def _endpoint(self, name: str, classifier: Classifier) -> Endpoint:
        rules = self._config.breaker
        return Endpoint(
            name,
            classifier,
            Breaker(rules.failures, rules.open_s),
            # From the top: the first burst at a slow judge must not be shed for want of experience.
            ConcurrencyLimit(self._ceiling, start=self._ceiling),
        )

    def _hedge(self) -> Hedge | None:
        rules = self._config.hedge
        return None if rules is None else Hedge(rules.quantile, rules.floor_s)

    async def reachable(self) -> bool:
        """Whether any server answers that can give a verdict; an escalation alone gives none.

        LiteLLM cannot be probed and counts as one that answers.
        """
        found = [True for judge in self._probed if judge is None]

        async def look(judge: JudgeClassifier) -> None:
            found.append(await judge.reachable())

        async with anyio.create_task_group() as group:
            for judge in self._probed:
                if judge is not None:
                    group.start_soon(look, judge)
        return any(found) or not found

    async def warm(self) -> None:
        """Put the prefix of every policy that is used into the cache of every server; log what fails."""

        async def one(replicas: Replicas, policies: Sequence[Policy]) -> None:
            for done in await replicas.warm(policies):
                if done.error is not None:
                    _log.warning("warm-up: %s, policy %s: %s", done.endpoint, done.policy, done.error.value)

        async with anyio.create_task_group() as group:
            for replicas, policies in self._warm:
                group.start_soon(one, replicas, policies)

    def states(self) -> list[EndpointState]:
        """What every endpoint is doing."""
        groups = dict.fromkeys(replicas for replicas, _ in self._warm)
        return [state for replicas in groups for state in replicas.states()]

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        for judge in self.judges:
            await judge.aclose()


def with_effort(policies: Iterable[Policy], effort: str | None) -> list[Policy]:
    """The policies, asked with this effort instead of their own, if one is given."""
    if effort is None:
        return list(policies)
    return [replace(policy, reasoning_effort=Effort(effort)) for policy in policies]


def _asked_with(judge: Classifier, effort: str | None) -> Classifier:
    return judge if effort is None else WithEffort(judge, Effort(effort))


class _Room:
    """How many tokens of the window a policy leaves for the user message."""

    def __init__(self, window: int, preset: Preset) -> None:
        self._window = window
        self._preset = preset
        self._by_revision: dict[str, int] = {}

    def __call__(self, policy: Policy) -> int:
        room = self._by_revision.get(policy.revision)
        if room is None:
            room = self._window - tokens(system_text(self._preset, policy))
            self._by_revision[policy.revision] = room
        return room


def _settings(config: JudgeConfig, ceiling: int) -> list[JudgeSettings]:
    """One per address."""
    preset = PRESETS[config.preset]
    prices = config.prices
    urls = config.base_url if isinstance(config.base_url, list) else [config.base_url]
    one = JudgeSettings(
        base_url="",
        model=config.model,
        api_key=config.api_key,
        preset=preset,
        max_tokens=config.max_tokens,
        max_concurrent=ceiling,
        json_mode=config.json_mode,
        context_tokens=config.context_tokens,
        prices=None if prices is None else Prices(prices.prompt, prices.completion, prices.cached),
    )
    if len(urls) > 1:
        one = replace(one, max_tries=TRIES_EACH)
    usual = preset.base_url if config.kind == "judge" else ""
    return [replace(one, base_url=url or usual) for url in urls]
