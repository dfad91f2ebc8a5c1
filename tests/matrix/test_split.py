"""A word split over two blocks of an answer: clients show the blocks as one text, and so it is judged."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest

from tests.e2e.conftest import CALLER_KEY
from tests.fakes import Say
from tests.matrix.cells import REFUSAL
from tests.matrix.conftest import Stage
from tests.matrix.python_clients import KEY_HEADER
from tests.wire import claudes, responses

PARTS = ("Well. So blo", "ckme it is.")
HEADERS = {"content-type": "text/event-stream"}
BOTH = pytest.mark.parametrize("streaming", [False, True], ids=["body", "stream"])


@BOTH
def test_in_messages(stage: Stage, streaming: bool) -> None:
    blocks: list[Any] = [(claudes.text(""), [claudes.said(part, at)]) for at, part in enumerate(PARTS)]
    stage.upstream.answers["split"] = (
        Say(headers=HEADERS, chunks=[event.raw for event in claudes.whole(*blocks)])
        if streaming
        else Say(claudes.answer(*map(claudes.text, PARTS)))
    )
    asked: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    headers = {KEY_HEADER: "split"}
    with anthropic.Anthropic(
        base_url=stage.proxies["closed"].root, api_key=CALLER_KEY, default_headers=headers
    ) as sdk:
        if streaming:
            with sdk.messages.stream(**asked) as events:
                found = events.get_final_message()
        else:
            found = sdk.messages.create(**asked)
    assert [block.to_dict() for block in found.content] == [claudes.text(REFUSAL)]
    assert found.stop_reason == "refusal"


@BOTH
def test_in_responses(stage: Stage, streaming: bool) -> None:
    item = responses.message(*PARTS)
    stage.upstream.answers["split"] = (
        Say(headers=HEADERS, chunks=[responses.encoded(responses.told(item))])
        if streaming
        else Say(responses.answer(item))
    )
    with stage.proxies["closed"].openai(default_headers={KEY_HEADER: "split"}) as sdk:
        if streaming:
            *_, last = sdk.responses.create(model="m", input="hello", stream=True)
            found: openai.types.responses.Response = last.response  # type: ignore[union-attr]
        else:
            found = sdk.responses.create(model="m", input="hello")
    assert (found.status, found.output_text) == ("incomplete", "")
