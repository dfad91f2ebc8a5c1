"""LiteLLM itself, imported once and told to be quiet. Raises ``ConfigError`` where it is not installed."""

from __future__ import annotations

import os

from guardrail.errors import ConfigError

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the import fetches a price list
try:
    import httpx
    import litellm
except ImportError:
    raise ConfigError(
        "kind litellm needs LiteLLM: install it with pip install 'guardrail[litellm]'"
    ) from None

litellm.suppress_debug_info = True  # else it prints advice to stdout at every error

__all__ = ["httpx", "litellm"]
