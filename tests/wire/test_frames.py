"""The twin of guardrail/wire/frames.py: streams cut into events, whole and at every point."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import UnreadableResponse
from guardrail.wire import frames as module
from guardrail.wire.frames import Frames, LineFrames, SseFrames, TextFrames
from guardrail.wire.sse import Event

TEXTS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)


def cut(frames: Frames, data: bytes, *at: int) -> list[Event]:
    """All events of the data, which comes in pieces."""
    edges = [0, *sorted(min(place, len(data)) for place in at), len(data)]
    events = [e for a, b in pairwise(edges) for e in frames.feed(data[a:b])]
    rest = frames.flush()
    return events + ([rest] if rest else [])


@pytest.mark.parametrize("form", [SseFrames, LineFrames, TextFrames])
@given(st.lists(TEXTS, max_size=4), st.lists(st.integers(0, 200), max_size=4), st.booleans())
def test_no_byte_is_lost_however_it_comes(
    form: type[SseFrames], texts: list[str], at: list[int], ended: bool
):
    data = b"".join(form().encode(json.dumps(text, ensure_ascii=False).encode()) for text in texts)
    data = data if ended else data.rstrip(b"\n")
    assert b"".join(event.raw for event in cut(form(), data, *at)) == data


@given(st.lists(TEXTS, max_size=4), st.lists(st.integers(0, 200), max_size=4))
def test_lines_are_the_same_however_they_come(texts: list[str], at: list[int]):
    data = b"".join(json.dumps(text).encode() + b"\r\n" for text in texts) + b"\n"
    events = cut(LineFrames(), data, *at)
    assert [json.loads(event.data) for event in events if event.data is not None] == texts
    assert events[-1] == Event(b"\n", None)


@given(TEXTS, st.lists(st.integers(0, 60), max_size=6))
def test_characters_stay_whole(text: str, at: list[int]):
    events = cut(TextFrames(), text.encode(), *at)
    assert "".join(event.raw.decode() for event in events) == text


class TestLines:
    def test_the_last_needs_no_end(self):
        assert cut(LineFrames(), b'{"a":1}\n{"a":2}') == [
            Event(b'{"a":1}\n', b'{"a":1}\n'),
            Event(b'{"a":2}', b'{"a":2}'),
        ]

    def test_one_without_an_end(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(module, "MAX_EVENT_BYTES", 10)
        frames = LineFrames()
        assert len(frames.feed(b"123456\n123456")) == 1
        with pytest.raises(UnreadableResponse, match="without an end"):
            frames.feed(b"78901")

    def test_what_is_sent_while_text_is_held_is_part_of_the_next_line(self):
        held = LineFrames.keep_alive + LineFrames().encode(b'{"a":1}')
        (event,) = cut(LineFrames(), held)
        assert json.loads(event.data or b"") == {"a": 1}


class TestText:
    def test_half_a_character_at_the_end(self):
        frames = TextFrames()
        assert frames.feed("ü".encode()[:1]) == []
        with pytest.raises(UnreadableResponse, match="UTF-8"):
            frames.flush()

    def test_no_utf_8(self):
        with pytest.raises(UnreadableResponse, match="UTF-8"):
            TextFrames().feed(b"caf\xe9 ")

    def test_it_is_its_own_form(self):
        assert TextFrames().encode(b"a") == TextFrames().replace(Event(b"b", b"b"), b"a") == b"a"
        assert TextFrames.keep_alive == b""


class TestEvents:
    def test_what_is_sent_while_text_is_held_is_a_comment(self):
        assert [event.data for event in cut(SseFrames(), SseFrames.keep_alive)] == [None]

    def test_names(self):
        assert SseFrames().encode(b"x", "token") == b"event: token\ndata: x\n\n"
        assert LineFrames().encode(b"x", "token") == b"x\n"

    def test_text_with_line_ends(self):
        (event,) = cut(SseFrames(), SseFrames().encode(b"a\r\nb\rc"))
        assert event.data == b"a\nb\nc"

    @pytest.mark.parametrize(
        ("raw", "new", "expected"),
        [
            (b"id: 1\ndata: a\n\n", b"b", b"id: 1\ndata: b\n\n"),
            (b"id: 1\ndata: a\n\n", b"b\nc", b"id: 1\ndata: b\ndata: c\n\n"),
            (
                b"data: a\r\nid: 1\r\ndata: b\r\n\r\n",
                b"c\nd\ne",
                b"data: c\r\ndata: d\r\ndata: e\r\nid: 1\r\n\r\n",
            ),
            (b"\xef\xbb\xbfdata: secret\n\n", b"b\nc", b"data: b\ndata: c\n\n"),
            (b"data: a\n\n", b"b\rc", b"data: b\ndata: c\n\n"),
            (b"data:a\ndata:b\n\n", b"c", b"data:c\n\n"),
        ],
    )
    def test_other_data_in_as_many_lines_as_it_has(self, raw: bytes, new: bytes, expected: bytes):
        (event,) = cut(SseFrames(), raw)
        assert SseFrames().replace(event, new) == expected

    @given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
    def test_what_is_put_there_is_read_there(self, old: str, new: list[str]):
        (event,) = cut(SseFrames(), f"id: 7\ndata: {old}\n\n".encode())
        data = "\n".join(new).encode()
        replaced = cut(SseFrames(), SseFrames().replace(event, data))
        assert [e.data for e in replaced] == [data]
        assert replaced[0].raw.startswith(b"id: 7\n")
