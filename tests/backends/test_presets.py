"""The twin of guardrail/backends/presets.py. What is sent under each: see test_judge_requests.py."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guardrail.backends.judge_requests import CHAT, Question
from guardrail.backends.presets import PRESETS, Preset
from guardrail.backends.prices import Prices
from guardrail.core.policy import Action, LabelRule, Policy

LABELS = {"OK": LabelRule("OK", violation=False), "BAD": LabelRule("BAD", True, Action.BLOCK)}
POLICY = Policy("p", "The policy.\n", LABELS)
PAGE = Path(__file__).parents[2] / "docs" / "judge-servers.md"
EVERY = pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda p: p.name)

FIELDS = {
    "generic": ("reasoning_effort", "max_tokens", "json_schema", "", 32_768, "unknown"),
    "vllm": ("reasoning_effort", "max_completion_tokens", "json_schema", "", 131_072, "error"),
    "ollama": ("think", "num_predict", "format", "", 8_192, "error"),
    "lmstudio": ("line", "max_tokens", "none", "", 4_096, "cuts"),
    "llamacpp": ("chat_template_kwargs", "max_tokens", "json_schema", "", 131_072, "error"),
    "sglang": ("reasoning_effort", "max_completion_tokens", "none", "", 131_072, "error"),
    "groq": ("reasoning_effort", "max_completion_tokens", "json_object", "", 131_072, "error"),
    "openrouter": ("reasoning.effort", "max_tokens", "json_object", "session_id", 32_768, "error"),
    "modelslab": ("reasoning_effort", "max_tokens", "none", "", 32_768, "unknown"),
    "transformers": ("line", "max_tokens", "none", "", 131_072, "unknown"),
}


def test_what_differs_between_the_servers_is_pinned():
    assert {
        name: (p.effort, p.tokens, p.json, p.cache_key, p.context_tokens, p.overflow)
        for name, p in PRESETS.items()
    } == FIELDS


@EVERY
def test_a_preset_is_found_by_its_name_and_knows_its_usual_address(preset: Preset):
    assert PRESETS[preset.name] is preset
    local = preset.base_url.startswith("http://127.0.0.1:")
    assert local or preset.base_url.startswith("https://")  # nothing leaves the machine in clear text
    assert not preset.base_url.endswith("/")


@EVERY
def test_only_ollama_is_asked_otherwise_by_its_address(preset: Preset):
    assert preset.at(preset.base_url) is preset
    twin = preset.at("http://host:1/v1")
    assert (twin is preset) is (preset.name != "ollama")
    assert twin.native is False
    assert preset.at("http://host:1/v1/") is twin
    assert preset.at("http://host:1") is preset


# A value of each field that goes into the request.
SENT: dict[str, Any] = {
    "effort": "line",
    "tokens": "max_completion_tokens",
    "json": "json_object",
    "cache_key": "prompt_cache_key",
    "extra": {"seed": 7},
}
# What the client does with the others, and the test that shows it.
DONE = {
    "base_url": "test_build.py: the address when none is configured",
    "context_tokens": "test_judge.py: TestWindow",
    "overflow": "test_judge.py: TestWindow",
    "inline_reasoning": "test_judge.py: TestReasoningInside",
    "prices": "test_judge.py: TestCost",
    "native": "test_ollama.py",
    "v1": "test_ollama.py",
}
TOLD = {"name", "cached_tokens", "notes", "source"}  # to the operator, by docs/judge-servers.md and doctor


def test_no_field_is_without_effect():
    fields = {field.name for field in dataclasses.fields(Preset)}
    assert fields == set(SENT) | set(DONE) | TOLD
    plain = PRESETS["generic"]

    def written(preset: Preset) -> dict[str, Any]:
        return CHAT.write(Question(preset, "m", POLICY, "U", 300, 8192, enforce=True))

    for name, value in SENT.items():
        assert written(replace(plain, **{name: value})) != written(plain), name


@EVERY
def test_the_page_tells_all_of_it(preset: Preset):
    page = PAGE.read_text(encoding="utf-8")
    for one in filter(None, (preset, preset.v1)):
        assert one.notes in page
        assert one.source in page
        (row,) = (
            line
            for line in page.splitlines()
            if line.startswith(f"| `{one.name}`") and one.base_url + "`" in line
        )
        assert one.cached_tokens in row
        assert f"{one.context_tokens:,}" in row


def test_prices_are_the_published_ones():
    known = {name: dict(p.prices) for name, p in PRESETS.items() if p.prices}
    assert known == {"groq": {"openai/gpt-oss-safeguard-20b": Prices(0.075, 0.30, 0.037)}}


def test_nobody_can_change_them():
    with pytest.raises(TypeError):
        PRESETS["generic"] = PRESETS["vllm"]  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["generic"].tokens = "max_completion_tokens"  # type: ignore[misc]
