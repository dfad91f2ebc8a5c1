"""The twin of guardrail/config/routes.py."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import ValidationError

from guardrail.config.routes import RouteConfig
from guardrail.wire.route import Route

LEAST = {"path": "/chat", "input": "$.message"}


def test_the_least_that_a_route_says():
    route = RouteConfig.model_validate(LEAST).route()
    assert {f.name: getattr(route, f.name) for f in fields(Route)} == {
        **LEAST,
        "output": None,
        "stream": None,
        "stream_if": [],
        "delta": None,
        "context": [],
        "end": [],
        "method": "POST",
        "websocket": False,
        "refusal": {},
    }


def test_all_of_it():
    said = {
        "path": "/chat",
        "method": "PUT",
        "input": ["$.a", "$.b"],
        "output": ["$.c", "$.d"],
        "context": "$.e",
        "stream": "sse",
        "stream_if": "$.stream",
        "delta": "$.g",
        "end": "$.f",
        "refusal": {"type": "message"},
        "websocket": False,
    }
    assert RouteConfig.model_validate(said).route() == Route(**said)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"path": "chat"}, "does not begin with /"),
        ({"input": "message"}, "input: 'message' is no JSONPath"),
        ({"stream": "xml"}, "stream"),
        ({"output": "$.a[*]"}, "must name one place"),
        ({"stream": "sse"}, "output: is missing"),
        ({"outptu": "$.a"}, "outptu"),
    ],
)
def test_what_is_refused(wrong: dict[str, Any], said: str):
    with pytest.raises(ValidationError, match=said):
        RouteConfig.model_validate({**LEAST, **wrong})
