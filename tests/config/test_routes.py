"""The twin of guardrail/config/routes.py."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from guardrail.config.routes import RouteConfig, RouteConfigs
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
        ({"path": "/chat/{id}"}, "no variable parts"),
        ({"path": "/chat/*"}, "no variable parts"),
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


def test_no_two_of_them_have_one_place():
    routes = TypeAdapter(RouteConfigs)
    other = [{**LEAST, "method": "PUT"}, {**LEAST, "websocket": True}, {**LEAST, "path": "/chats"}]
    assert len(routes.validate_python([LEAST, *other])) == 4
    with pytest.raises(ValidationError, match="route /chat/ stands there twice"):
        routes.validate_python([LEAST, *other, {**LEAST, "path": "/chat/"}])
