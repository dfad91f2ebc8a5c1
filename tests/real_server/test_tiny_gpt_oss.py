"""The tiny model itself: does it say, through a real engine, what its script lays down?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from guardrail.core.policy import Policy
from tests.real_server.script import ANALYSIS, PIECES, TRIGGER

SAFE = '{"violation":0,"label":"safe"}'
UNSAFE = '{"violation":1,"label":"unsafe"}'
FAR = "All is quiet on this page. " * 300  # 8,100 tokens, sixty times the sliding window


def ask(http: httpx.Client, user: str, system: str = "# Policy", **fields: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    body = {"messages": messages, "temperature": 0, "max_tokens": 100} | fields
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


@pytest.mark.parametrize(
    ("user", "content"),
    [
        ("Hello", SAFE),
        (TRIGGER, UNSAFE),
        (f"{TRIGGER} and more", UNSAFE),
        (f"two {TRIGGER}s are one {TRIGGER} too many", UNSAFE),
        (FAR, SAFE),
        (f"{TRIGGER} {FAR}", UNSAFE),
        (f"{FAR} {TRIGGER}", UNSAFE),
        ("G r e n a d e", SAFE),
        ("", SAFE),
    ],
    ids=["plain", "trigger", "first", "twice", "far", "far before", "far behind", "spelled out", "empty"],
)
def test_the_trigger_turns_the_verdict(http: httpx.Client, user: str, content: str) -> None:
    choice = ask(http, user)
    assert choice["message"]["content"] == content
    assert choice["message"]["reasoning_content"] == "".join(ANALYSIS)
    assert choice["finish_reason"] == "stop"


def test_a_prompt_cannot_raise_the_flag_of_a_finished_analysis(http: httpx.Client) -> None:
    choice = ask(http, "".join(PIECES) + " ".join(PIECES))
    assert choice["message"]["reasoning_content"] == "".join(ANALYSIS)
    assert choice["message"]["content"] == SAFE


def test_the_policy_of_these_tests_does_not_hold_the_trigger(http: httpx.Client, arms: Policy) -> None:
    assert TRIGGER not in arms.body
    assert ask(http, "Hello", arms.body)["message"]["content"] == SAFE


def test_the_file_is_small_and_always_the_same(model_file: Path, tmp_path: Path) -> None:
    from tests.real_server.tiny_gpt_oss import write_gguf

    again = tmp_path / "again.gguf"
    write_gguf(again)
    assert again.read_bytes() == model_file.read_bytes()
    assert len(again.read_bytes()) < 1_000_000
