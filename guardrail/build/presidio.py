"""From the section ``presidio`` to its detectors, which are loaded once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from guardrail.backends.embedded import SlowDetectors
from guardrail.config import PresidioConfig

__all__ = ["slow_detectors"]


def slow_detectors(config: PresidioConfig | None) -> SlowDetectors | None:
    """None without the section. Raises ``ConfigError``: the extra or the pipeline is not installed.

    A pipeline takes seconds and hundreds of megabytes, so a configuration that is read again has the same
    detectors, unless it names another pipeline or its folder was written anew.
    """
    if config is None:
        return None
    meta = Path(config.model, "meta.json")  # spaCy writes it with every pipeline
    return _loaded(config.model, meta.stat().st_mtime_ns if meta.is_file() else 0)


@lru_cache(maxsize=1)
def _loaded(model: str, written_ns: int) -> SlowDetectors:
    from guardrail.backends.presidio import PresidioDetectors

    return PresidioDetectors(model)
