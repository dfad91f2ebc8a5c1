"""Server-sent events: however the bytes are cut, the events and their bytes are the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guardrail.errors import UnreadableResponse
from guardrail.wire.sse import MAX_EVENT_BYTES, Event, SseDecoder, encode, replace

MARK = b"\xef\xbb\xbf"  # a byte order mark
PIECES = [
    b"data: ",
    b"data:",
    b"data",
    b" data: ",
    b"event: x",
    b": comment",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\r\r",
    b"\r\n\r\n",
    "\u2028\u2029\u0085".encode(),
    "é😀".encode(),
    b"\xff\x00\x0b\x0c\x1c",
    b'{"a": "b"}',
    b"[DONE]",
    MARK,
    b" ",
    b":",
]
streams = st.one_of(st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join), st.binary(max_size=40))


def decode(*chunks: bytes) -> list[Event]:
    decoder = SseDecoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    rest = decoder.flush()
    assert decoder.flush() is None
    return events if rest is None else [*events, rest]


def lines_of(stream: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each line and its end, byte by byte; the last has no end."""
    line = b""
    position = 0
    while position < len(stream):
        end = stream[position : position + 1]
        if stream[position : position + 2] == b"\r\n":
            end = b"\r\n"
        position += len(end)
        if end in (b"\r", b"\n", b"\r\n"):
            yield line, end
            line = b""
        else:
            line += end
    if line:
        yield line, b""


def by_the_standard(stream: bytes) -> list[Event]:
    """The events, line by line as html.spec.whatwg.org has it.

    Stricter in two ways, so that nothing a lenient client reads goes unjudged: what is left at the end
    counts too, and a byte order mark is skipped before every line, not only the first. An empty line that
    ends no event, as it is the first of one, is part of it.
    """
    events: list[Event] = []
    raw = b""
    data: list[bytes] = []
    for whole, end in lines_of(stream):
        line = whole.removeprefix(MARK)
        if line.startswith(b"data:"):
            value = line[len(b"data:") :]
            data.append(value[1:] if value[:1] == b" " else value)
        elif line == b"data":
            data.append(b"")
        first = not raw
        raw += whole + end
        if not whole and not first:
            events.append(Event(raw, b"\n".join(data) if data else None))
            raw, data = b"", []
    return [*events, Event(raw, b"\n".join(data) if data else None)] if raw else events


class TestAnyBytes:
    @given(streams)
    @example(b"data: a\r\r\ndata: b\r\n\rdata: c\n\r\ndata: d\r\n\ndata: e\n\rdata: f\r\r\r")
    @example(b"data: a\n\ndata:b\n\ndata\n\n: c\n\nevent: d\n\nid: e\n\ndata: f")
    @example(b"data: a\n\n\ndata: b\n\n")
    @example(b"\n\n\n\ndata: a\ndata: b\n\ndata: c\n\n")
    def test_the_events_are_what_the_standard_says(self, stream: bytes):
        assert decode(stream) == by_the_standard(stream)

    @given(streams)
    @example(b"data: [DONE]\n\n\n")
    @example(b" \t\r\n")
    def test_the_bytes_of_all_events_are_the_stream(self, stream: bytes):
        assert b"".join(event.raw for event in decode(stream)) == stream

    @given(streams)
    @example("data: \u2028é😀\r\n\r\n: c\r\rdata: x\n\ndata\r\n\r\n".encode())
    def test_cut_in_two_anywhere_or_into_single_bytes_the_events_are_the_same(self, stream: bytes):
        whole = decode(stream)
        for cut in range(len(stream) + 1):
            assert decode(stream[:cut], stream[cut:]) == whole
        assert decode(*[stream[i : i + 1] for i in range(len(stream))]) == whole

    @given(streams, st.lists(st.integers(0, 60), max_size=5))
    def test_cut_into_many_chunks_with_empty_ones_the_events_are_the_same(
        self, stream: bytes, at: list[int]
    ):
        cuts = sorted(at)
        chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert decode(*chunks) == decode(stream)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
class TestEveryLineEnd:
    def test_fields_comments_and_several_data_lines(self, end: bytes):
        lines = [
            b": note",
            b"event: e",
            b"id: 7",
            b"data: one",
            b"data:two",
            b"data:  three",
            b"data",
            b"retry: 1",
        ]
        block = end.join(lines) + end + end
        assert decode(block) == [Event(block, b"one\ntwo\n three\n")]

    def test_events_follow_each_other(self, end: bytes):
        first, second, third = (line + end + end for line in (b"data: 1", b": ping", b"data:"))
        assert decode(first + second + third) == [
            Event(first, b"1"),
            Event(second, None),
            Event(third, b""),
        ]

    def test_other_unicode_line_ends_are_text(self, end: bytes):
        text = "a\u2028b\u2029c\u0085d\u000be\u000cf\u001cg".encode()
        block = b"data: " + text + end + end
        assert decode(block) == [Event(block, text)]

    def test_an_event_that_the_stream_breaks_off_is_not_lost(self, end: bytes):
        block = b"data: a" + end + b"data: b" + end
        assert decode(block) == [Event(block, b"a\nb")]


class TestWhenAnEventLeaves:
    @pytest.mark.parametrize("block", [b"data: a\n\n", b"data: a\r\n\r\n", b"data: a\r\n\n"])
    def test_with_the_byte_that_completes_it_and_no_sooner(self, block: bytes):
        decoder = SseDecoder()
        assert decoder.feed(block[:-1]) == []
        assert decoder.feed(block[-1:]) == [Event(block, b"a")]

    def test_a_last_cr_waits_for_the_byte_that_tells_whether_it_is_half_of_a_crlf(self):
        decoder = SseDecoder()
        assert decoder.feed(b"data: a\r\r") == []
        assert decoder.feed(b"\ndata: b\r\r") == [Event(b"data: a\r\r\n", b"a")]
        assert decoder.feed(b"d") == [Event(b"data: b\r\r", b"b")]

    def test_an_empty_chunk_and_an_empty_stream_are_nothing(self):
        assert SseDecoder().feed(b"") == []
        assert decode() == []


@pytest.mark.parametrize("block", [MARK + b"data: x\n\n", MARK + b"data: x\r\n\r\n"])
def test_text_behind_a_byte_order_mark_is_data_because_clients_skip_the_mark(block: bytes):
    assert decode(block) == [Event(block, b"x")]


@pytest.mark.parametrize("line", [b"Data: x", b"data : x", b" data: x", b"dataset: x", b":data: x"])
def test_what_only_looks_like_data_is_no_data(line: bytes):
    assert decode(line + b"\n\n") == [Event(line + b"\n\n", None)]


class TestEncode:
    @given(st.binary(max_size=40).filter(lambda data: b"\r" not in data), st.sampled_from([None, "error"]))
    @example(b'{"a":\n1}', None)
    def test_what_is_encoded_is_decoded_as_it_was(self, data: bytes, event: str | None):
        block = encode(data, event)
        assert decode(block) == [Event(block, data)]

    def test_its_bytes(self):
        assert encode(b"{}") == b"data: {}\n\n"
        assert encode(b"{}", "ping") == b"event: ping\ndata: {}\n\n"


LINES = st.sampled_from(
    [
        b"data: a",
        b"data:a",
        b"data:  a",
        b"data",
        b"data:",
        MARK + b"data: b",
        b": data: a",
        b"event: data",
        b"id: 7",
        b"retry:1",
        b"data : a",
    ]
)


class TestReplace:
    @given(
        st.lists(LINES, min_size=1),
        st.sampled_from([b"\n", b"\r\n", b"\r"]),
        st.sampled_from([0, 1, 2]),
        st.data(),
    )
    def test_the_data_is_new_and_every_other_byte_stays(
        self, lines: list[bytes], end: bytes, ends: int, data: st.DataObject
    ):
        raw = end.join(lines) + end * ends
        [before] = decode(raw)
        if before.data is None:
            assert replace(raw, b"new") == raw
            return
        assert replace(raw, before.data) == raw
        piece = st.sampled_from([b"", b"{}", b" [1,", b"data: x"])
        room = before.data.count(b"\n") + 1
        new = b"\n".join(data.draw(st.lists(piece, min_size=1, max_size=room + 2)))
        after = replace(raw, new)
        assert [event.data for event in decode(after)] == [new]

        def others(block: bytes) -> list[bytes]:
            kept = [
                line for line in block.split(end) if line.split(b":")[0] not in (b"data", MARK + b"data")
            ]
            return [line for line in kept if line]

        assert others(after) == others(raw)
        assert after.endswith(end * ends)

    @pytest.mark.parametrize(
        ("raw", "new", "after"),
        [
            (b"data: a\n\n", b"b", b"data: b\n\n"),
            (b"data:a\r\n\r\n", b"b", b"data:b\r\n\r\n"),
            (b"data:a\n\n", b" b", b"data:  b\n\n"),
            (b"event: e\rdata: a\rid: 1\rdata: b\r\r", b"c\nd", b"event: e\rdata: c\rid: 1\rdata: d\r\r"),
            (b"data: a\nid: 1\ndata: b\n\n", b"c", b"data: c\nid: 1\n\n"),
            (b"data\ndata: b\n\n", b"\nc", b"data\ndata: c\n\n"),
            (b"data\n\n", b"c", b"data:c\n\n"),
            (b"data: a", b"b", b"data: b"),
            (b"id: 1\ndata:a\n\n", b"b\nc", b"id: 1\ndata: b\ndata: c\n\n"),
            (b"data: a\rid: 1\rdata: b\r\r", b"c\nd\ne", b"data: c\rdata: d\rdata: e\rid: 1\r\r"),
            (b"data: a", b"b\nc", b"data: b\ndata: c\n"),
        ],
    )
    def test_its_bytes(self, raw: bytes, new: bytes, after: bytes):
        assert replace(raw, new) == after


def test_an_event_without_an_end_is_refused_instead_of_kept():
    decoder = SseDecoder()
    assert decoder.feed(b"data: " + b"x" * MAX_EVENT_BYTES) == []
    with pytest.raises(UnreadableResponse):
        decoder.feed(b"x")
