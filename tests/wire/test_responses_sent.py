"""What has left of a stream, and how it is closed."""

from __future__ import annotations

from typing import Any

import pytest

from guardrail.wire.responses_sent import Sent, Text
from tests.wire.responses import Json, call, citation, message, reasoning, said, strictly, told


def noted(events: list[Json]) -> Sent:
    """What has left when all these events did, and the texts of their pieces with them."""
    sent = Sent()
    for one in events:
        sent.note(one["type"], one)
        if one["type"] == "response.output_text.delta":
            place = (one["output_index"], "content", one["content_index"], "text")
            sent.texts.setdefault(place, Text()).add(one["delta"], one["delta"])
        elif one["type"] == "response.reasoning_summary_text.delta":
            place = (one["output_index"], "summary", one["summary_index"], "text")
            sent.texts.setdefault(place, Text()).add(one["delta"], one["delta"])
    return sent


def closed(sent: Sent, status: str = "incomplete", *, parsed: bool = False) -> list[Json]:
    return list(sent.close(status, parsed=parsed))


def until(events: list[Json], kind: str, count: int = 1) -> list[Json]:
    """The events up to this one, the ``count``-th of its type."""
    places = [place for place, one in enumerate(events) if one["type"] == f"response.{kind}"]
    return events[: places[count - 1] + 1]


class TestText:
    def test_it_knows_up_to_where_it_is_what_came(self):
        text = Text()
        for piece, new in [("ab", "ab"), ("cd", "cX"), ("e", "e")]:
            text.add(piece, new)
        assert (text.text, text.same) == ("abcXe", 3)

    def test_a_change_behind_the_first_changes_nothing_of_that(self):
        text = Text()
        for piece, new in [("ab", "X"), ("cd", "Y")]:
            text.add(piece, new)
        assert (text.text, text.same) == ("XY", 0)

    def test_it_may_be_said_anew(self):
        text = Text()
        text.add("ab", "X")
        text.restart()
        text.add("cd", "cd")
        assert (text.text, text.same) == ("cd", None)


class TestNothingOpen:
    def test_a_whole_stream_leaves_nothing_to_close(self):
        sent = noted(told(reasoning("r"), message("a")))
        assert closed(sent) == []
        assert sent.output == [reasoning("r"), message("a")]
        assert sent.next_index == 2

    def test_nor_does_one_that_has_not_begun(self):
        sent = noted([])
        assert (closed(sent), sent.output, sent.next_index, sent.response) == ([], [], 0, None)


class TestClose:
    def test_an_open_text_is_closed_with_its_part_and_its_item(self):
        events = until(told(message("before", "abcdefgh")), "output_text.delta", 3)
        sent = noted(events)
        found = closed(sent)
        assert [one["type"] for one in found] == [
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
        ]
        strictly([{**one, "sequence_number": 0} for one in found])
        assert (found[0]["text"], found[0]["content_index"], found[0]["item_id"]) == ("abcd", 1, "msg_0")
        assert found[1]["part"] == said("abcd", "output_text")
        assert sent.output == [found[2]["item"]]
        assert found[2]["item"] == {**message("before", "abcd"), "status": "incomplete"}
        assert closed(sent) == []

    def test_a_text_that_is_done_is_not_done_again(self):
        events = told(message("abcd"))
        found = closed(noted(until(events, "output_text.done")))
        assert [one["type"] for one in found] == ["response.content_part.done", "response.output_item.done"]
        [last] = closed(noted(until(events, "content_part.done")))
        assert last["item"] == found[1]["item"] == {**message("abcd"), "status": "incomplete"}

    def test_where_texts_are_parsed_none_that_broke_off_is_done(self):
        sent = noted(until(told(message("abcdefgh")), "output_text.delta"))
        found = closed(sent, parsed=True)
        assert [one["type"] for one in found] == ["response.content_part.done", "response.output_item.done"]
        assert found[0]["part"]["text"] == "abcd"
        assert sent.output == [{**message(), "status": "incomplete"}]

    def test_reasoning_is_closed_in_its_own_events(self):
        sent = noted(until(told(reasoning("abcdefgh")), "reasoning_summary_text.delta"))
        found = closed(sent, parsed=True)
        assert [one["type"] for one in found] == [
            "response.reasoning_summary_text.done",
            "response.reasoning_summary_part.done",
            "response.output_item.done",
        ]
        strictly([{**one, "sequence_number": 0} for one in found])
        assert found[1]["summary_index"] == 0
        assert sent.output == [{**reasoning("abcd"), "status": "incomplete"}]

    def test_a_refusal_is_closed_too(self):
        sent = noted(until(told(message(said("no", "refusal"))), "content_part.added"))
        found = closed(sent, "completed")
        assert found[0]["type"] == "response.refusal.done"
        assert sent.output == [message(said("", "refusal"))]

    def test_annotations_that_left_stand_in_the_part(self):
        note = citation(0, 2)
        whole = message(said("abcd", "output_text", annotations=[note, citation(2, 3)]))
        sent = noted(until(told(whole), "output_text.annotation.added"))
        assert closed(sent)[1]["part"]["annotations"] == [note]

    def test_annotations_may_begin_with_none(self):
        sent = Sent()
        sent.note("response.content_part.added", {"part": {"type": "output_text", "annotations": None}})
        sent.note("response.output_text.annotation.added", {"annotation": {"x": 1}})
        assert closed(sent)[1]["part"]["annotations"] == [{"x": 1}]

    def test_a_call_whose_arguments_left(self):
        events = until(told(call('{"a":1}')), "function_call_arguments.delta")
        sent = noted(events)
        sent.texts[0, "arguments"] = Text()
        sent.texts[0, "arguments"].add('{"a"', '{"a"')
        found = closed(sent)
        assert [one["type"] for one in found] == [
            "response.function_call_arguments.done",
            "response.output_item.done",
        ]
        assert sent.output == [{**call('{"a"'), "status": "incomplete"}]
        sent = noted(until(told(call('{"a":1}')), "function_call_arguments.done"))
        sent.texts[0, "arguments"] = Text()
        assert [one["type"] for one in closed(sent)] == ["response.output_item.done"]

    @pytest.mark.parametrize("kind", ["web_search_call", "image_generation_call"])
    def test_a_search_that_broke_off_failed(self, kind: str):
        sent = Sent()
        sent.note(
            "response.output_item.added", {"item": {"type": kind, "id": "i", "status": "in_progress"}}
        )
        assert closed(sent)[0]["item"]["status"] == "failed"

    def test_a_type_that_is_none_is_closed_too(self):
        sent = Sent()
        sent.note("response.output_item.added", {"item": {"type": ["x"]}})
        assert closed(sent)[0]["item"] == {"type": ["x"], "status": "incomplete"}

    def test_a_part_of_tomorrow_is_closed_as_it_came(self):
        sent = Sent()
        sent.note("response.output_item.added", {"item": message()})
        sent.note("response.content_part.added", {"part": {"type": "of_tomorrow"}})
        found = closed(sent)
        assert [one["type"] for one in found] == ["response.content_part.done", "response.output_item.done"]
        assert sent.output[0]["content"] == [{"type": "of_tomorrow"}]


class TestServersThatTellLess:
    def test_a_text_without_a_beginning_gets_one(self):
        sent = noted(
            [{"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "a"}]
        )
        closed(sent)
        assert sent.output == [
            {
                "id": None,
                "type": "message",
                "role": "assistant",
                "status": "incomplete",
                "content": [{"type": "output_text", "text": "a"}],
            }
        ]

    def test_so_does_reasoning_and_code(self):
        sent = noted(
            [
                {
                    "type": "response.reasoning_summary_text.delta",
                    "output_index": 0,
                    "summary_index": 0,
                    "delta": "a",
                },
                {"type": "response.code_interpreter_call_code.delta", "output_index": 1, "item_id": "ci"},
            ]
        )
        closed(sent)
        assert sent.output == [
            {
                "id": None,
                "type": "reasoning",
                "status": "incomplete",
                "summary": [{"type": "summary_text", "text": "a"}],
            },
            {"id": "ci", "type": "code_interpreter_call", "status": "incomplete"},
        ]

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            ("response.of_tomorrow", {"item": message()}),
            ("response.of_tomorrow.added", {"part": {"type": "output_text"}}),
            ("response.in_progress", {"response": None}),
            ("response.output_item.added", {"item": None}),
        ],
    )
    def test_what_is_not_known_changes_nothing(self, kind: str, body: dict[str, Any]):
        sent = Sent()
        sent.note(kind, body)
        assert (sent.output, sent.response, closed(sent)) == ([], None, [])
