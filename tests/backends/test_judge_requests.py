"""The twin of guardrail/backends/judge_requests.py. The bytes on the wire: see test_judge.py."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from guardrail.backends.judge_requests import CHAT, Form, Question, json_schema, schema, system_text
from guardrail.backends.ollama import NATIVE
from guardrail.backends.presets import PRESETS, Preset
from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.policy import Action, AnswerForm, Effort, LabelRule, Policy, Stage
from guardrail.core.prompt import prefix, user_message

LABELS = {"OK": LabelRule("OK", violation=False), "BAD": LabelRule("BAD", True, Action.BLOCK)}
POLICY = Policy(
    "p", 'Line one.\r\n\t"quoted" \\ caf\u00e9 \U0001f600\n', LABELS, reasoning_effort=Effort.HIGH
)
BINARY = replace(POLICY, answer=AnswerForm.BINARY)
FORMS = [
    (preset, NATIVE if preset.native else CHAT)
    for preset in [*PRESETS.values(), *(p.v1 for p in PRESETS.values() if p.v1)]
]
EVERY = pytest.mark.parametrize(
    ("preset", "form"), FORMS, ids=[f"{p.name}-{'native' if p.native else 'chat'}" for p, _ in FORMS]
)


def question(preset: Preset, user: str = "U", policy: Policy = POLICY, **more: Any) -> Question:
    return Question(preset, "org/model", policy, user, 300, 8192, **more)


def contents(count: int) -> Iterator[str]:
    """Texts of all sorts, each judged as it would be: behind a boundary of its own."""
    dice = random.Random(7)
    signs = 'aZ 09\n\t"\\{}[]<|>:,\u00e9\u4e2d\U0001f600\u200b\x00\x7f\ud800'
    for _ in range(count):
        text = "".join(dice.choices(signs, k=dice.randrange(60))).replace("\ud800", "\ufffd")
        turn = Turn("user", (Segment(text, ()),))
        yield user_message(POLICY, Subject(Stage.INPUT, (), (turn,)), secrets.token_hex(12))


@EVERY
@pytest.mark.parametrize("enforce", [False, True])
def test_only_the_content_changes_over_a_thousand_texts(preset: Preset, form: Form, enforce: bool):
    """What stands before the content is what servers cache; what stands after is rendered before it too."""
    around = set()
    users = list(contents(1000))
    for user in users:
        written = orjson.dumps(form.write(question(preset, user, enforce=enforce)))
        before, content, after = written.partition(orjson.dumps(user)[1:-1])
        assert content
        around.add((before, after))
    assert len(set(users)) == 1000
    ((before, _),) = around
    assert before.endswith(b'{"role":"user","content":"')


@EVERY
@pytest.mark.parametrize("effort", list(Effort))
def test_the_system_message_is_the_policy_and_at_most_a_line_before_it(
    preset: Preset, form: Form, effort: Effort
):
    policy = replace(POLICY, reasoning_effort=effort)
    messages = form.write(question(preset, policy=policy))["messages"]
    assert [message["role"] for message in messages] == ["system", "user"]
    line = f"Reasoning: {effort.value}\n\n" if preset.name in ("lmstudio", "transformers") else ""
    assert messages[0]["content"] == line + prefix(policy) == system_text(preset, policy)
    assert messages[1]["content"] == "U"


EFFORTS = {
    "reasoning_effort": {"reasoning_effort": "high"},
    "reasoning.effort": {"reasoning": {"effort": "high"}},
    "chat_template_kwargs": {"chat_template_kwargs": {"reasoning_effort": "high"}},
    "think": {"think": "high"},
    "line": {},
}


@EVERY
def test_the_effort_goes_where_the_server_looks_for_it_and_nowhere_else(preset: Preset, form: Form):
    body = form.write(question(preset))
    fields = {"reasoning_effort", "reasoning", "chat_template_kwargs", "think"}
    assert {name: body[name] for name in fields & set(body)} == EFFORTS[preset.effort]


@EVERY
def test_json_is_enforced_only_where_it_can_be_and_only_when_asked(preset: Preset, form: Form):
    fields = {"response_format", "format"}
    for ask in (question(preset), question(preset, policy=BINARY, enforce=True)):
        assert not fields & set(form.write(ask))
        assert not ask.enforces
    ask = question(preset, enforce=True)
    body = form.write(ask)
    assert ask.enforces is (preset.json != "none")
    assert {name: body[name] for name in fields & set(body)} == {
        "none": {},
        "json_object": {"response_format": {"type": "json_object"}},
        "json_schema": {"response_format": json_schema(POLICY)},
        "format": {"format": schema(POLICY)},
    }[preset.json]


@pytest.mark.parametrize("name", ["lmstudio", "sglang", "transformers"])
def test_it_is_never_sent_where_it_is_known_to_break_gpt_oss(name: str):
    assert "response_format" not in CHAT.write(question(PRESETS[name], enforce=True))


def test_the_schema_holds_the_labels_and_what_a_strict_server_needs():
    found = schema(POLICY)
    assert found["properties"]["label"]["enum"] == ["OK", "BAD"]
    assert found["properties"]["violation"]["enum"] == [0, 1]
    assert found["required"] == list(found["properties"])
    assert found["additionalProperties"] is False
    assert json_schema(POLICY)["json_schema"]["strict"] is True


TOKENS = {"max_tokens", "max_completion_tokens"}


@pytest.mark.parametrize("name", ["generic", "vllm"])
def test_a_refused_limit_is_asked_for_by_its_other_name_then_not_at_all(name: str):
    preset = PRESETS[name]
    first = preset.tokens
    (other,) = TOKENS - {first}
    for without, left in (((), {first}), ((first,), {other}), ((first, other), set())):
        body = CHAT.write(question(preset, without=frozenset(without)))
        assert TOKENS & set(body) == left
        assert all(body[name] == 300 for name in left)


@EVERY
def test_whatever_was_refused_is_left_out(preset: Preset, form: Form):
    whole = form.write(question(preset, enforce=True))
    for name in set(whole) - {"model", "messages", "options"}:
        body = form.write(question(preset, enforce=True, without=frozenset({name})))
        assert name not in body
        kept = {key: value for key, value in whole.items() if key != name}
        assert {key: value for key, value in body.items() if key not in TOKENS - set(whole)} == kept


def test_the_text_is_in_no_repr():
    assert "the-words" not in repr(question(PRESETS["generic"], "the-words"))
