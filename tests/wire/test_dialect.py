"""The Dialect protocol: what every dialect offers, under the same names and parameters."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil

import pytest

import guardrail.wire
from guardrail.core.conversation import Conversation, Kind, Turn
from guardrail.wire.dialect import Choice, Delta, Dialect, EventStream, GuardedRequest, StreamEvent
from guardrail.wire.route import Route
from guardrail.wire.routes import RouteDialect
from guardrail.wire.sse import Event


def dialects() -> list[type]:
    """Every class of the room that is named a dialect."""
    found = []
    for module in pkgutil.iter_modules(guardrail.wire.__path__, "guardrail.wire."):
        for name, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if name.endswith("Dialect") and value is not Dialect and value.__module__ == module.name:
                found.append(value)
    return found


def methods(protocol: type) -> list[str]:
    return [name for name, _ in inspect.getmembers(protocol, inspect.isfunction) if name[0] != "_"]


METHODS = methods(Dialect)


def made(dialect: type) -> Dialect:
    return dialect(Route("/chat", "$.message", "$.reply")) if dialect is RouteDialect else dialect()


def test_the_protocol_asks_for_what_the_frontends_use():
    assert set(METHODS) == {
        "read_request",
        "edit",
        "drop",
        "read_response",
        "refuse_choices",
        "refuse",
        "stream",
        "error",
    }


@pytest.mark.parametrize("dialect", dialects(), ids=lambda dialect: dialect.__name__)
class TestEveryDialect:
    def test_has_a_name_of_its_own(self, dialect: type):
        names = [made(other).name for other in dialects()]
        assert made(dialect).name
        assert names.count(made(dialect).name) == 1

    @pytest.mark.parametrize("method", [name for name in METHODS if name != "stream"])
    def test_has_the_protocols_method_with_its_parameters(self, dialect: type, method: str):
        theirs, asked = (inspect.signature(getattr(c, method), eval_str=True) for c in (dialect, Dialect))
        assert theirs == asked

    @pytest.mark.parametrize("method", methods(EventStream))
    def test_has_an_object_for_each_stream(self, dialect: type, method: str):
        made = inspect.signature(dialect.stream, eval_str=True).return_annotation
        theirs, asked = (inspect.signature(getattr(c, method), eval_str=True) for c in (made, EventStream))
        assert theirs.parameters == asked.parameters


def test_the_chat_dialect_is_among_them():
    assert "ChatDialect" in [dialect.__name__ for dialect in dialects()]


class TestValues:
    def test_a_request_and_a_choice_cannot_be_changed(self):
        request = GuardedRequest(b"{}", Conversation(()), "m", stream=False, choices=1, include_usage=False)
        choice = Choice(0, Turn("assistant", ()))
        assert (request.added_policies, choice.unreadable) == ((), ())
        for value, field in ((request, "raw"), (choice, "position")):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, field, None)

    def test_a_delta_leaves_at_once_unless_it_says_whole(self):
        assert Delta(0, "content", Kind.TEXT, "x", ("choices", 0)).whole is False

    def test_an_event_without_deltas_ends_nothing_and_names_nothing(self):
        event = StreamEvent(Event(b": ping\n\n", None), ())
        assert (event.finished, event.unreadable, event.choices) == ((), (), ())
