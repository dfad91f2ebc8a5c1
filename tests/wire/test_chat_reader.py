"""The reader of a stream: whatever it has learned, it finds what reading every chunk in full finds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guardrail.errors import UnreadableResponse
from guardrail.wire import chat_reader
from guardrail.wire.chat_chunks import Heard, parse_chunk, plain_text, read_chunk
from guardrail.wire.chat_reader import MAX_RUN, ChatReader
from guardrail.wire.dialect import StreamEvent
from guardrail.wire.sse import Event
from tests.wire.chats import MARK, chunk, delta, event


def read_in_full(event: Event, heard: Heard) -> StreamEvent:
    chunk = parse_chunk(event.data)
    heard.plain = heard.plain or plain_text(chunk) is not None
    return read_chunk(event, chunk, heard)


# Chunks as servers write them: {T} is the text, {O} letters and digits, {N} a number that counts.
OPENAI = (
    b'{"id":"chatcmpl-D1","object":"chat.completion.chunk","created":1773345317,"model":"gpt-4o",'
    b'"service_tier":"default","system_fingerprint":null,"choices":[{"index":0,"delta":{"content":"{T}"},'
    b'"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"{O}"}'
)
OPENAI_LOGPROBS = OPENAI.replace(
    b'"logprobs":null',
    b'"logprobs":{"content":[{"token":"{T}","logprob":-0.{N},"bytes":[{N}],"top_logprobs":[]}],"refusal":null}',
)
VLLM = (
    b'{"id":"chatcmpl-95","object":"chat.completion.chunk","created":1782114956,"model":"/model/m",'
    b'"choices":[{"index":0,"delta":{"content":"{T}"},"logprobs":null,"finish_reason":null,'
    b'"token_ids":null}]}'
)
VLLM_USAGE = VLLM.replace(b'"token_ids":null}]', b'"token_ids":[{N}]}],"usage":{"total_tokens":{N}}')
SGLANG = (
    b'{"id":"chatcmpl-01","object":"chat.completion.chunk","created":1772609598,"model":"m",'
    b'"choices":[{"index":0,"delta":{"role":"assistant","content":"{T}","reasoning_content":null},'
    b'"logprobs":null,"finish_reason":null,"matched_stop":null}]}'
)
OLLAMA = (
    b'{"id":"chatcmpl-7","object":"chat.completion.chunk","created":1731400242,"model":"llama3.2",'
    b'"system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"{T}"},'
    b'"finish_reason":null}]}'
)
LLAMACPP = (
    b'{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"{T}"}}],"created":1781492230,'
    b'"id":"chatcmpl-qC","model":"m.gguf","system_fingerprint":"b9554-d403f00ec",'
    b'"object":"chat.completion.chunk"}'
)
LLAMACPP_TIMINGS = LLAMACPP[:-1] + b',"timings":{"predicted_n":{N},"predicted_ms":{N}.596}}'
GROQ = VLLM.replace(b',"token_ids":null', b"").replace(b'"m"', b'"m","system_fingerprint":"fp_f8"')
AZURE = (
    b'{"choices": [{"content_filter_results": {"hate": {"filtered": false, "severity": "safe"}}, '
    b'"delta": {"content": "{T}", "function_call": null, "refusal": null, "role": null, '
    b'"tool_calls": null}, "finish_reason": null, "index": 0, "logprobs": null}], '
    b'"created": 1711938086, "id": "chatcmpl-9", '
    b'"model": "gpt-4", "object": "chat.completion.chunk", "usage": null}'
)
STEADY = {
    "openai": OPENAI,
    "openai, spaced": OPENAI.replace(b'":', b'": ').replace(b',"', b', "'),
    "vllm": VLLM,
    "sglang": SGLANG,
    "ollama": OLLAMA,
    "llama.cpp": LLAMACPP,
    "groq": GROQ,
    "azure": AZURE,
}
"""Chunks that are the same but for their text and their obfuscation."""
SERVERS = [*STEADY.values(), OPENAI_LOGPROBS, VLLM_USAGE, LLAMACPP_TIMINGS]


def fill(template: bytes, text: bytes = b"a", other: bytes = b"k3", number: int = 7) -> Event:
    data = template.replace(b"{T}", text).replace(b"{O}", other).replace(b"{N}", b"%d" % number)
    return event(data)


def told(read: StreamEvent) -> tuple[list[Any], list[int], list[str], list[int]]:
    return list(read.deltas), list(read.finished), list(read.unreadable), list(read.choices)


def assert_read_as_in_full(*messages: Sequence[Event]) -> int:
    """Read by one reader, the events mean what they mean in full. The number of those that were read."""
    reader, alone = ChatReader(), partial(read_in_full, heard=Heard())
    count = 0
    for events in messages:
        left = list(events)
        found = reader.read(events)
        while True:
            try:
                read = next(found, None)
            except UnreadableResponse as error:
                assert MARK not in str(error)  # noqa: PT017
                with pytest.raises(UnreadableResponse):
                    alone(left[0])
                return count
            if read is None:
                break
            own = [left.pop(0) for _ in read.parts or [read.event]]
            count += len(own)
            if not read.parts:
                full = alone(own[0])
                assert read.event == full.event
                assert (read.event is own[0]) == (full.event is own[0])
                assert told(read) == told(full)
                continue
            assert list(read.parts) == own
            assert 1 < len(own) <= MAX_RUN
            assert read.event == Event(b"".join(one.raw for one in own), own[-1].data)
            deltas = []
            for one in own:
                (added,), *rest = told(alone(one))
                assert rest == [[], [], [added.choice]]
                deltas.append(added)
            assert told(read) == ([deltas[0]._replace(text="".join(d.text for d in deltas))], *rest)
            assert len({d._replace(text="") for d in deltas}) == 1
        assert left == []
    return count


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes | None]:
    """The data that a reader parses from now on; it is parsed as ever."""
    seen: list[bytes | None] = []
    parse = chat_reader.parse_chunk

    def spy(data: bytes | None) -> Any:
        seen.append(data)
        return parse(data)

    monkeypatch.setattr(chat_reader, "parse_chunk", spy)
    return seen


class TestRuns:
    """Read many at once, events mean what they mean one by one."""

    EVENTS = st.one_of(
        st.builds(lambda i, t: chunk(delta(i, content=t)), st.integers(0, 1), st.text(max_size=3)),
        st.sampled_from(
            [
                chunk(delta(0, role="assistant", content="")),
                chunk(delta(0, reasoning="hm")),
                chunk({"index": 0, "delta": {}, "finish_reason": "stop"}),
                chunk(delta(0, content="a"), delta(1, content="b")),
                chunk(),
                Event(b": ping\n\n", None),
                event(b"[DONE]"),
                event(b" [DONE] "),
            ]
        ),
    )

    @given(st.lists(st.lists(EVENTS, max_size=40), max_size=3))
    def test_a_run_is_the_sum_of_its_events(self, messages: list[list[Event]]):
        assert assert_read_as_in_full(*messages) == sum(map(len, messages))

    @pytest.mark.parametrize("server", STEADY)
    def test_texts_of_one_choice_are_read_as_one_up_to_the_longest_run(self, server: str):
        events = [fill(STEADY[server], b"%d" % i) for i in range(2 * MAX_RUN + 2)]
        assert [len(read.parts) for read in ChatReader().read(events)] == [MAX_RUN, MAX_RUN, 2]

    def test_choices_are_not_mixed(self):
        events = [chunk(delta(choice, content="a")) for choice in (0, 0, 1, 1, 0)]
        assert [(len(read.parts), *read.choices) for read in ChatReader().read(events)] == [
            *((2, 0), (2, 1), (0, 0))
        ]

    def test_what_comes_before_an_event_that_cannot_be_read_is_read(self):
        found = ChatReader().read([chunk(delta(0, content="a")), chunk(delta(0, content="b")), event(b"{")])
        assert next(found).deltas[0].text == "ab"
        with pytest.raises(UnreadableResponse):
            next(found)


class TestLearning:
    @pytest.mark.parametrize("server", STEADY)
    def test_once_a_chunk_is_read_in_full_those_like_it_are_not_parsed(
        self, server: str, parsed: list[bytes | None]
    ):
        texts = [b"a", b" b", "é".encode(), b"\\n\\n", b'\\"q\\"', b"\\ud83d\\ude00", b"c" * 5000]
        events = [fill(STEADY[server], text, b"x9A"[: 1 + i % 3]) for i, text in enumerate(texts)]
        reader = ChatReader()
        assert len(list(reader.read(events[:1]))) == 1
        parsed.clear()
        [read] = reader.read(events[1:])
        assert read.deltas[0].text == ' bé\n\n"q"😀' + "c" * 5000
        assert parsed == []

    @pytest.mark.parametrize("server", STEADY)
    def test_a_stream_that_changes_its_shape_now_and_then_is_learned_again(
        self, server: str, parsed: list[bytes | None]
    ):
        """Some servers write the time of each chunk, in seconds."""
        events = [
            fill(STEADY[server].replace(b'"created"', b'"n":%d,"created"' % (i // 50)), b"%d" % i)
            for i in range(1000)
        ]
        assert assert_read_as_in_full(events) == 1000
        assert len({data for data in parsed if data in [e.data for e in events]}) <= 1000 // 50

    def test_a_first_chunk_unlike_the_others_is_no_hindrance(self, parsed: list[bytes | None]):
        events = [fill(SGLANG), *[fill(VLLM, b"%d" % i) for i in range(10)]]
        assert assert_read_as_in_full(events) == len(events)
        assert {*parsed} & {one.data for one in events} == {events[0].data, events[1].data}

    def test_an_obfuscation_that_stays_is_like_any_other_field(self, parsed: list[bytes | None]):
        template = CHANGES["an obfuscation before"](VLLM)
        events = [fill(template, b"%d" % i) for i in range(10)]
        assert assert_read_as_in_full(events) == len(events)
        assert {*parsed} & {one.data for one in events} == {events[0].data}

    def test_where_no_two_chunks_are_alike_it_gives_up_learning(self, parsed: list[bytes | None]):
        events = [fill(LLAMACPP_TIMINGS, b"a", number=i) for i in range(100)]
        assert assert_read_as_in_full(events) == 100
        tried = len(parsed) - len(events)
        assert 0 < tried <= 4

    def test_what_one_stream_taught_is_not_known_in_another(self, parsed: list[bytes | None]):
        for _ in range(2):
            parsed.clear()
            list(ChatReader().read([fill(OPENAI)]))
            assert parsed[0] == fill(OPENAI).data


def field(key: bytes, value: bytes) -> Callable[[bytes], bytes]:
    """Another field at the chunk's beginning or, where it has a "choices" there, behind it."""
    return lambda data: data.replace(b"{", b'{"%s":%s,' % (key, value), 1)


def instead(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(old, new, 1)


TEXT = b'"content":"{T}"'
# Each makes one chunk another one, without a look at whether it is one still.
CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "as it was": lambda data: data,
    "another choice": instead(b'"index":0', b'"index":1'),
    "an index beyond": instead(b'"index":0', b'"index":-1'),
    "an index that is a float": instead(b'"index":0', b'"index":0.0'),
    "an index that is true": instead(b'"index":0', b'"index":true'),
    "an index that is a string": instead(b'"index":0', b'"index":"0"'),
    "no index": instead(b'"index":0,', b""),
    "an index twice": instead(b'"index":0', b'"index":0,"index":1'),
    "an end": instead(b'"finish_reason":null', b'"finish_reason":"stop"'),
    "an end of another type": instead(b'"finish_reason":null', b'"finish_reason":["stop"]'),
    "an empty end": instead(b'"finish_reason":null', b'"finish_reason":""'),
    "null": instead(TEXT, b'"content":null'),
    "a list": instead(TEXT, b'"content":["{T}"]'),
    "a number": instead(TEXT, b'"content":1'),
    "an object": instead(TEXT, b'"content":{"content":"{T}"}'),
    "no text": instead(TEXT, b'"role":"assistant"'),
    "an empty delta": instead(TEXT, b""),
    "a delta that is a list": instead(b"{%s}" % TEXT, b'["{T}"]'),
    "the text twice": instead(TEXT, TEXT + b"," + TEXT),
    "another text before": instead(TEXT, b'"content":"b",' + TEXT),
    "another text behind": instead(TEXT, TEXT + b',"content":"b"'),
    "an escaped key before": instead(TEXT, b'"\\u0063ontent":"b",' + TEXT),
    "an escaped key": instead(TEXT, b'"c\\u006fntent":"{T}"'),
    "a key that ends like it": instead(TEXT, b'"a\\"content":"{T}",' + TEXT),
    "a key that ends like it, alone": instead(TEXT, b'"a\\"content":"{T}"'),
    "a key that ends like it, silent": instead(TEXT, b'"a\\"content":"",' + TEXT),
    "a key in other letters": instead(TEXT, b'"Content":"{T}",' + TEXT),
    "reasoning": instead(TEXT, TEXT + b',"reasoning":"{T}"'),
    "a refusal": instead(TEXT, TEXT + b',"refusal":"{T}"'),
    "a refusal alone": instead(b'"content":', b'"refusal":'),
    "a tool call": instead(TEXT, TEXT + b',"tool_calls":[{"function":{"arguments":"{T}"}}]'),
    "a function call": instead(TEXT, TEXT + b',"function_call":{"content":"{T}"}'),
    "an unknown text": instead(TEXT, TEXT + b',"x":"{T}"'),
    "an unknown list": instead(TEXT, b'"x":[{"content":"{T}"}],' + TEXT),
    "an unknown number": instead(TEXT, b'"x":{N},' + TEXT),
    "an unknown text beside": instead(b'"delta"', b'"x":"{T}","delta"'),
    "an unknown text behind": instead(b'"finish_reason":null', b'"finish_reason":null,"x":"{T}"'),
    "a known key beside in other letters": instead(b'"delta"', b'"Delta":null,"delta"'),
    "an error beside": instead(b'"delta"', b'"error":{"content":"{T}"},"delta"'),
    "an obfuscation beside": instead(b'"delta"', b'"obfuscation":"{O}","delta"'),
    "an obfuscation behind": instead(b'"finish_reason":null', b'"finish_reason":null,"obfuscation":"{O}"'),
    "an obfuscation in the delta": instead(TEXT, TEXT + b',"obfuscation":"{O}"'),
    "an obfuscation before": field(b"obfuscation", b'"{O}"'),
    "an obfuscation in a call": instead(TEXT, TEXT + b',"tool_calls":[{"obfuscation":"{O}"}]'),
    "an obfuscation in log probabilities": instead(
        b'"finish_reason":null', b'"finish_reason":null,"logprobs":{"obfuscation":"{O}"}'
    ),
    "a key that ends like it, obfuscated": instead(TEXT, TEXT + b',"a\\"obfuscation":"{O}"'),
    "a key that ends like it at the end": lambda data: data[:-1] + b',"a\\"obfuscation":"{O}"}',
    "two of them": lambda data: data[:-1] + b',"obfuscation":"{O}"}',
    "a message": instead(b'"delta"', b'"message":{"content":"{T}"},"delta"'),
    "a message behind": instead(b'"finish_reason":null', b'"finish_reason":null,"message":{"content":"b"}'),
    "a message instead": instead(b'"delta"', b'"message"'),
    "a second choice": instead(b'"choices":[', b'"choices":[{"index":1,"delta":{"content":"{T}"}},'),
    "a second choice without text": instead(b'"choices":[', b'"choices":[{"index":1,"delta":{}},'),
    "no choice": instead(b'"choices":[', b'"choices":[],"was":['),
    "choices that are an object": instead(b'"choices":[', b'"choices":{},"was":['),
    "choices twice": lambda data: data[:-1] + b',"choices":[]}',
    "the text elsewhere": field(b"content", b'"{T}"'),
    "the text elsewhere, nested": field(b"x", b'{"delta":{"content":"{T}"}}'),
    "the text elsewhere, as a string": field(b"x", b'"\\"content\\":\\"{T}\\""'),
    "a text elsewhere": field(b"content", b'"b"'),
    "a number beyond all": field(b"x", b"1" * 5000),
    "a repeated key elsewhere": field(b"x", b'{"a":1,"a":2}'),
    "spaces": lambda data: data.replace(b'{"', b'{\n "').replace(b',"', b', "').replace(b'":', b'": '),
    "spaces where they are odd": lambda data: data.replace(b":", b" :\t").replace(b'",', b'" ,\n'),
    "a last space": lambda data: data + b" ",
    "a first space": lambda data: b" " + data,
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "something behind": lambda data: data + b"{}",
    "cut off": lambda data: data[:-1],
    "cut in the text": lambda data: data[: data.find(b"{T}") + 1],
    "[DONE]": lambda data: b"[DONE]",
    "nothing": lambda data: b"",
}
SOUND = [
    b"a",
    b" b",
    b"x",
    "§é😀".encode(),
    b"\\n",
    b'\\"',
    b"\\\\",
    b"\\u0041",
    b"\\u0000",
    b"\\ud83d\\ude00",
]
ODD = [
    b"",
    b'"',
    b"\\",
    b"\\x",
    b"\\u12",
    b"\\ud800",
    b"\\udc00\\ud800",
    b"\xff",
    b"\xed\xa0\x80",
    b"\x00",
    b"\n",
    b'","content":"b',
    b'","x":"b',
    b'","role":"b',
    b'"},"delta":{"content":"b',
    b'"},"logprobs":null,"finish_reason":"stop","x":{"a":"b',
    b'"},"logprobs":null,"finish_reason":null},{"index":1,"delta":{"content":"b',
    b'"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"b',
    b'"}}],"choices":[{"delta":{"content":"b',
    b'","choices":[],"x":"b',
    b'","obfuscation":"b',
    b'\\","obfuscation":"b',
    b'"content":"',
    b'\\"content\\":\\"',
    b'" , "a" : "b',
    b'" ',
    b"{T}",
    b"a\\",
    b"b\\\\\\",
    "é".encode(),
    b"-",
    b" ",
]
interiors = st.lists(st.sampled_from(SOUND * 4 + ODD), min_size=1, max_size=3).map(b"".join)


class Kind(NamedTuple):
    """A template, whichever fields of it were changed."""

    template: bytes
    changes: tuple[str, ...]

    def fill(self, text: bytes, other: bytes, number: int) -> Event:
        data = self.template
        for name in self.changes:
            data = CHANGES[name](data)
        return fill(data, text, other, number)


class TestHostileChunks:
    """A chunk that is like a learned one in part only must be read as if nothing had been learned."""

    @pytest.mark.parametrize("change", CHANGES)
    @pytest.mark.parametrize("template", [OPENAI, VLLM, LLAMACPP], ids=["openai", "vllm", "llama.cpp"])
    def test_fields_that_change(self, template: bytes, change: str):
        plain, changed = Kind(template, ()), Kind(template, (change,))
        for text in (b"a", b"\\u0022", "§".encode()):
            kinds = [plain, plain, changed, changed, changed, plain]
            events = [kind.fill(text * (1 + i), b"k%d" % i, i) for i, kind in enumerate(kinds)]
            assert_read_as_in_full(events)
            assert_read_as_in_full(events[2:])  # it is what is learned from
            one_text = [kind.fill(text, b"k%d" % i, i) for i, kind in enumerate(kinds)]
            assert_read_as_in_full(one_text)

    @pytest.mark.parametrize("text", ODD)
    @pytest.mark.parametrize("template", SERVERS)
    def test_texts_that_would_end_too_early_or_too_late(self, template: bytes, text: bytes):
        for odd in (text, b"a" + text, text + b"a", text + text):
            assert_read_as_in_full([fill(template), fill(template, b"b"), fill(template, odd)])

    @pytest.mark.parametrize("learned", [b"k3", b'k\\"b', *ODD])
    def test_obfuscations_that_are_more_than_letters(self, learned: bytes):
        for other in (*ODD, b'k"b', b"a\\u0041", b"k3\x00", b"k_3", "ä".encode(), b"a" * 5000):
            for odd in (other, b"a" + other, other + b"a"):
                events = [fill(OPENAI, b"a", learned), fill(OPENAI, b"b", odd), fill(OPENAI, b"c")]
                assert_read_as_in_full(events)
                assert_read_as_in_full([events[0], *events[2:], *events[1:]])

    @pytest.mark.parametrize("value", [b"null", b"1", b"[]", b'{"content":"b"}', b'["b"]'])
    def test_obfuscations_of_another_type(self, value: bytes):
        odd = OPENAI.replace(b'"{O}"', value)
        assert_read_as_in_full([fill(OPENAI), fill(OPENAI, b"b"), fill(odd, b"c")])

    @pytest.mark.parametrize("template", SERVERS)
    def test_every_cut_and_every_gap(self, template: bytes):
        learned, whole = fill(template, b"abc"), fill(template, b"abcdef").data or b""
        for size in (1, 2, 7):
            for start in range(len(whole)):
                assert_read_as_in_full([learned, event(whole[:start] + whole[start + size :])])
        for start in range(len(whole)):
            assert_read_as_in_full([learned, event(whole[:start])], [event(whole[start:])])

    def test_head_and_tail_without_anything_between(self):
        """They may even share the quote that ends the one and begins the other."""
        for template in SERVERS:
            head, tail = template.split(b"{T}", 1)
            for data in (head + tail[1:], head[:-1] + tail, head, tail, head + tail, head[:-1] + tail[1:]):
                assert_read_as_in_full([fill(template), fill(template, b"b"), fill(data)])


class TestAnyStream:
    KINDS = st.builds(
        Kind,
        st.sampled_from(SERVERS),
        st.lists(st.sampled_from([*CHANGES]), max_size=2).map(tuple),
    )
    CUTS = st.none() | st.tuples(st.integers(0, 400), st.integers(0, 30), st.sampled_from([b"", *ODD]))

    @staticmethod
    def cut(whole: Event, where: tuple[int, int, bytes] | None) -> Event:
        if where is None or whole.data is None:
            return whole
        start, size, new = where
        return event(whole.data[:start] + new + whole.data[start + size :])

    @given(st.data())
    def test_is_read_as_it_would_be_without_learning(self, data: st.DataObject):
        plain = st.sampled_from(SERVERS).map(lambda template: Kind(template, ()))
        kinds = data.draw(st.lists(self.KINDS | plain, min_size=1, max_size=3))
        rarely = st.integers(0, 9).flatmap(lambda chance: st.none() if chance else self.CUTS)
        chunks = st.builds(
            lambda kind, text, other, number, where: self.cut(kind.fill(text, other, number), where),
            st.sampled_from(kinds),
            interiors,
            st.text("aZ09", min_size=1, max_size=4).map(str.encode) | interiors,
            st.integers(0, 2),
            rarely,
        )
        messages = data.draw(st.lists(st.lists(chunks, max_size=6), min_size=1, max_size=4))
        # The chunks before it can be read more often than not, so that there is something to learn from.
        before = [kind.fill(b"a", b"k3", 0) for kind in kinds]
        assert_read_as_in_full(before, *messages)
        assert_read_as_in_full(*messages)

    @given(
        st.sampled_from(SERVERS),
        st.lists(st.text(max_size=8), min_size=1, max_size=20),
        st.booleans(),
    )
    @example(VLLM, ["a", '"},"finish_reason":null}]}', 'b","content":"', "\\", "\u2028", "\x00"], False)
    @example(OPENAI, ["a", '"usage":null,"obfuscation":"x', '","obfuscation":"'], True)
    def test_every_text_that_is_written_soundly_comes_out_whole(
        self, template: bytes, texts: list[str], ascii_only: bool
    ):
        def written() -> Iterator[bytes]:
            for text in texts:
                yield json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode()

        events = [fill(template, text, b"k%d" % i, i) for i, text in enumerate(written())]
        assert assert_read_as_in_full(events) == len(events)
        found = [d.text for read in ChatReader().read(events) for d in read.deltas]
        assert "".join(found) == "".join(texts)
