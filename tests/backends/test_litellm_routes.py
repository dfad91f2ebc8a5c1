"""The twin of guardrail/backends/litellm_routes.py: which route is which, and how answers are written."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from guardrail.frontends.middleware import DIALECTS
from guardrail.wire.sse import SseDecoder
from tests.backends.litellm_arguments import LEAD_ELSEWHERE

pytest.importorskip("litellm", reason="the extra guardrail[litellm] is not installed")
pytestmark = [
    pytest.mark.anyio,
    # Pydantic about a type of LiteLLM's own, whenever LiteLLM first builds it.
    pytest.mark.filterwarnings("ignore:.*ReadOnly.*:UserWarning"),
]


async def each(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


def routes() -> Any:
    from guardrail.backends import litellm_routes

    return litellm_routes


def test_every_dialect_has_its_route_but_for_counting():
    known = {path: routes().route_of("/v1" + path) for path in DIALECTS}
    assert {path for path, route in known.items() if route is None} == {"/messages/count_tokens"}
    assert len({id(route) for route in known.values()}) == len(DIALECTS)
    assert routes().route_of("/v1/chat/completions/") is known["/chat/completions"]
    assert routes().route_of("/v1/images/generations") is None


@pytest.mark.parametrize(
    "path", ["/chat/completions", "/completions", "/embeddings", "/responses", "/messages"]
)
def test_no_field_is_an_argument_that_leads_elsewhere(path: str):
    """Neither to another address or key, nor to text that the dialect does not read."""
    fields = routes().ROUTES[path].fields
    assert not fields.intersection(LEAD_ELSEWHERE)
    assert set(routes().ROUTES[path].required) <= fields


def test_its_functions_are_the_asynchronous_ones():
    called = [route.call for route in routes().ROUTES.values()]
    assert all(inspect.iscoroutinefunction(inspect.unwrap(call)) for call in called)


async def test_events_of_responses_are_named_and_numbered():
    items = [{"type": "response.created"}, {"type": "response.completed", "sequence_number": 9}]
    raw = b"".join([part async for part in routes().response_events(each(*items))])
    events = SseDecoder().feed(raw)
    assert [one.raw.split(b"\n")[0] for one in events] == [
        b"event: response.created",
        b"event: response.completed",
    ]
    assert [orjson.loads(one.data or b"")["sequence_number"] for one in events] == [0, 1]


async def test_events_of_messages_are_passed_on_or_written():
    raw = b'event: ping\ndata: {"type": "ping"}\n\n'
    items = [raw, raw.decode(), {"type": "message_stop"}]
    got = [part async for part in routes().message_events(each(*items))]
    assert got == [raw, raw, b'event: message_stop\ndata: {"type":"message_stop"}\n\n']


def test_a_completion_without_text_gets_an_empty_one():
    body = {"object": "text_completion", "choices": [{"index": 0}, {"index": 1, "text": "x"}]}
    told = orjson.loads(routes().body_of({**body, "_hidden_params": {"key": "k"}}))
    assert [choice["text"] for choice in told["choices"]] == ["", "x"]
    assert "_hidden_params" not in told
