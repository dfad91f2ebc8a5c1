"""What the ways in without a server are made of: a configuration file, or an engine built by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from guardrail.engine.check import GuardrailEngine
from guardrail.frontends.exchange import Settings

__all__ = ["InProcess", "opened"]


@dataclass(frozen=True, slots=True)
class InProcess:
    """An engine, the settings beside it, the paths that pass unguarded, and what closes it all."""

    engine: GuardrailEngine
    settings: Settings
    allow: Sequence[str]
    aclose: Callable[[], Awaitable[None]]


def opened(
    guard: str | Path | GuardrailEngine,
    settings: Settings | None = None,
    allow: Sequence[str] | None = None,
) -> InProcess:
    """From a ``guardrail.yaml``, or around an engine, which is then left open for who built it.

    ``settings`` and ``allow``, where given, stand in the place of the file's. Raises ``ConfigError``.
    """
    if isinstance(guard, GuardrailEngine):
        return InProcess(guard, settings or Settings(), allow or (), _nothing)
    from guardrail.build import build_guard
    from guardrail.config import load_config

    config = load_config(guard)
    built = build_guard(config)
    paths = config.paths.allow if allow is None else allow
    return InProcess(built.engine, settings or built.settings, paths, built.aclose)


async def _nothing() -> None:
    pass
