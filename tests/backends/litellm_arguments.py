"""Arguments of LiteLLM's functions that no caller may reach."""

from __future__ import annotations

from typing import Final

LEAD_ELSEWHERE: Final = (
    "api_base",
    "base_url",
    "api_key",
    "custom_llm_provider",
    "extra_body",
    "extra_headers",
    "headers",
    "fallbacks",
    "context_window_fallback_dict",
    "model_list",
    "deployment_id",
    "client",
    "organization",
    "api_version",
    "timeout",
    "num_retries",
    "mock_response",
    "mock_tool_calls",
    "prompt_id",
    "prompt_variables",
    "roles",
    "initial_prompt_value",
    "final_prompt_value",
    "logger_fn",
    "metadata",
    "litellm_metadata",
    "provider_specific_header",
)
"""To another address or key, to another answer, or to text that no dialect reads."""
