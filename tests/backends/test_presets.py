"""The twin of guardrail/backends/presets.py. What is sent under each preset: see test_judge.py."""

from __future__ import annotations

import dataclasses

import pytest

from guardrail.backends.presets import PRESETS, Preset

FIELDS = {
    "generic": ("reasoning_effort", "max_tokens", ""),
    "vllm": ("reasoning_effort", "max_completion_tokens", ""),
    "ollama": ("reasoning_effort", "max_tokens", ""),
    "openrouter": ("reasoning.effort", "max_tokens", "session_id"),
}


def test_what_differs_between_the_servers_is_pinned():
    assert {name: (p.effort, p.tokens, p.cache_key) for name, p in PRESETS.items()} == FIELDS


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda p: p.name)
def test_a_preset_is_found_by_its_name_and_knows_its_usual_address(preset: Preset):
    assert PRESETS[preset.name] is preset
    local = preset.base_url.startswith("http://127.0.0.1:")
    assert local or preset.base_url.startswith("https://")  # nothing leaves the machine in clear text
    assert preset.base_url.endswith("/v1")


def test_nobody_can_change_them():
    with pytest.raises(TypeError):
        PRESETS["generic"] = PRESETS["vllm"]  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["generic"].tokens = "max_completion_tokens"  # type: ignore[misc]
