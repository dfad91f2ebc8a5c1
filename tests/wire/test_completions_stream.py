"""The completions dialect, streams: every text of a chunk has its channel, an edit touches nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import openai
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Address, Kind
from guardrail.errors import UnreadableResponse
from guardrail.wire.dialect import StreamEvent
from guardrail.wire.replies import Refusal
from guardrail.wire.sse import Event, SseDecoder, encode
from tests.wire.chats import BLOCK, EVIL, MARK, REFUSALS, at, event, sdk
from tests.wire.texts import answer, choice, chunk, completions, drawn_answers, opened, read_one

WHOLE = (
    chunk(choice("Once ", 0, logprobs={"tokens": ["Once "]})).raw
    + b": a note\r\n\r\n"
    + chunk(choice("a", 1), choice("upon ", 0)).raw
    + chunk(choice("b", 1, "length")).raw.replace(b"\n\n", b"\r\n\r\n")
    + chunk(choice("a time", 0, "stop")).raw
    + chunk(usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}).raw
    + b"data: [DONE]\n\n"
)


def write(one: Event, texts: Mapping[Address, str], dropped: Sequence[int] = ()) -> bytes:
    stream = opened()
    [read] = stream.read([one])
    return stream.write(read, texts, dropped)


class TestRead:
    @pytest.mark.parametrize(
        "data",
        [
            None,
            b"[DONE]",
            b" [DONE] ",
            b"{}",
            b'{"choices": null}',
            b'{"error": {"message": "no"}}',
            b'{"choices": [], "prompt_filter_results": [{}]}',
        ],
    )
    def test_an_event_without_choices_adds_nothing(self, data: bytes | None):
        whole = Event(b": raw\n\n", data)
        found = read_one(whole)
        assert found.event is whole
        assert (list(found.deltas), list(found.finished), list(found.unreadable)) == ([], [], [])
        assert (list(found.choices), list(found.parts)) == ([], [])

    def test_choices_their_texts_their_ends_and_their_places_in_the_event(self):
        found = read_one(chunk(choice("a", 1), choice("b", 2, "length", reasoning="c"), choice("", 3)))
        assert [(d.choice, d.channel, d.kind, d.text, d.address) for d in found.deltas] == [
            (1, "text", Kind.TEXT, "a", ("choices", 0, "text")),
            (2, "reasoning", Kind.REASONING, "c", ("choices", 1, "reasoning")),
            (2, "text", Kind.TEXT, "b", ("choices", 1, "text")),
        ]
        assert not any(d.whole for d in found.deltas)
        assert (list(found.choices), list(found.finished)) == ([1, 2, 3], [2])

    def test_a_choice_without_an_index_is_the_first(self):
        assert [d.choice for d in read_one(event({"choices": [{"text": "a"}]})).deltas] == [0]

    def test_a_chunk_that_says_it_twice_has_a_channel_for_each(self):
        found = read_one(chunk(choice("a", delta={"content": "a", "token_id": 5}), token={"text": "a"}))
        assert [(d.channel, d.text) for d in found.deltas] == [("text", "a"), ("delta", "a")]
        assert list(found.unreadable) == []

    def test_what_may_be_text_is_named_outside_of_the_choices_too(self):
        found = read_one(chunk(choice("a", x=EVIL), __verbose={"content": EVIL}))
        assert list(found.unreadable) == ["$.__verbose", "$.choices[0].x"]

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xc2\xa7",
            b"[]",
            b"null",
            b"5",
            b'"\xc2\xa7"',
            b'{"content": "\xc2\xa7", "stop": false}',
            b'{"choices": [], "content": "\xc2\xa7"}',
            b'{"choices": 5}',
            b'{"choices": "\xc2\xa7"}',
            b'{"choices": {"0": {}}}',
            b'{"choices": ["\xc2\xa7"]}',
            b'{"choices": [null]}',
            b'{"choices": [{"index": "0"}]}',
            b'{"choices": [{"index": null, "text": "\xc2\xa7"}]}',
            b'{"choices": [{"index": true}]}',
            b'{"choices": [{"text": "\xc2\xa7", "text": "b"}]}',
            b'{"choices": [{"text": "a", "Text": "\xc2\xa7"}]}',
            b'{"Choices": [{"text": "\xc2\xa7"}]}',
        ],
    )
    def test_what_is_no_chunk_is_unreadable_and_not_quoted(self, data: bytes):
        before = chunk(choice("a"))
        found = opened().read([before, event(data)])
        assert next(found).event is before
        with pytest.raises(UnreadableResponse) as caught:
            next(found)
        assert MARK not in str(caught.value)

    def test_no_event_is_read_as_several(self):
        assert opened().split(read_one(chunk(choice("a")))) == ()

    @given(drawn_answers.map(orjson.dumps) | st.binary(max_size=20))
    def test_any_event_is_read_or_unreadable_and_every_text_in_it_can_be_replaced(self, data: bytes):
        stream = opened()
        try:
            [found] = stream.read([event(data)])
        except UnreadableResponse as error:
            assert MARK not in str(error)  # noqa: PT017
            return
        assert type(found) is StreamEvent
        assert stream.write(found, {}, ()) is found.event.raw
        texts = {d.address: f"new{i}" for i, d in enumerate(found.deltas)}
        if not texts:
            return
        value = orjson.loads(data)
        assert all(at(value, d.address) == d.text for d in found.deltas)
        [after] = SseDecoder().feed(stream.write(found, texts, ()))
        changed = orjson.loads(after.data or b"")
        for address, text in texts.items():
            assert at(changed, address) == text
            assert not changed["choices"][address[1]].get("logprobs")
        value = orjson.loads(found.event.data or b"")  # what spells other text than it adds is gone
        others = [
            p for p, index in enumerate(found.choices) if index not in {d.choice for d in found.deltas}
        ]
        assert all(changed["choices"][place] == value["choices"][place] for place in others)


def test_a_stream_that_passes_leaves_as_it_came_wherever_it_is_split():
    for cut in range(len(WHOLE)):
        stream, decoder = opened(), SseDecoder()
        found = [read for part in (WHOLE[:cut], WHOLE[cut:]) for read in stream.read(decoder.feed(part))]
        assert decoder.flush() is None
        assert b"".join(stream.write(read, {}, ()) for read in found) == WHOLE, cut
        texts = {0: "", 1: ""}
        for delta in [d for read in found for d in read.deltas]:
            texts[delta.choice] += delta.text
        assert texts == {0: "Once upon a time", 1: "ab"}, cut
        assert [index for read in found for index in read.finished] == [1, 0], cut


class TestWrite:
    DATA = (
        b'{"id":"c", "choices":[{"index":0,"text":"a 42","token_ids":[1],'
        b'"logprobs":{"tokens":["a ","42"]}},\n'
        b' {"index":1, "text":"b","logprobs":{"tokens":[1.0E0]}},{"text":"c", "index":2}],"x":1.0}'
    )

    def test_only_the_new_texts_and_what_spells_the_old_change(self):
        after = write(event(self.DATA), {("choices", 0, "text"): "a [R]"})
        expected = self.DATA.replace(b"a 42", b"a [R]").replace(b'{"tokens":["a ","42"]}', b"null")
        assert SseDecoder().feed(after) == [Event(after, expected.replace(b"[1]", b"null"))]

    def test_what_says_it_again_beside_the_choices_goes_too(self):
        one = chunk(choice("42", delta={"content": "42", "token_id": 42}), token={"text": "42"})
        texts = {("choices", 0, "text"): "[R]", ("choices", 0, "delta", "content"): "[R]"}
        for after in (write(one, texts), write(chunk(choice("b"), choice("42", 1), token="42"), {}, [1])):
            assert b"42" not in after
            assert SseDecoder().feed(after)[0].data

    @pytest.mark.parametrize(
        ("dropped", "kept"),
        [([0], [1, 2]), ([1], [0, 2]), ([2], [0, 1]), ([0, 1], [2]), ([1, 2], [0]), ([0, 2], [1])],
    )
    def test_halted_choices_are_taken_out_and_the_others_keep_their_bytes(
        self, dropped: list[int], kept: list[int]
    ):
        after = write(event(self.DATA), {}, dropped)
        [only] = SseDecoder().feed(after)
        value, before = orjson.loads(only.data or b""), orjson.loads(self.DATA)
        assert value == before | {"choices": [before["choices"][index] for index in kept]}
        assert (b"[1.0E0]" in after) == (1 in kept)
        assert after.endswith(b'],"x":1.0}\n\n')

    def test_new_texts_and_halted_choices_in_one_event(self):
        after = write(event(self.DATA), {("choices", 1, "text"): "B"}, [0])
        choices = orjson.loads(SseDecoder().feed(after)[0].data or b"")["choices"]
        assert [(c["index"], c["text"], c.get("logprobs")) for c in choices] == [
            (1, "B", None),
            (2, "c", None),
        ]

    def test_an_event_of_halted_choices_alone_is_gone(self):
        assert write(event(self.DATA), {}, [0, 1, 2]) == b""

    @pytest.mark.parametrize("one", [event(DATA), Event(b": ping\n\n", None), chunk(usage={})])
    def test_an_event_that_none_of_it_concerns_stays_as_it_was(self, one: Event):
        assert write(one, {}, [9]) is one.raw

    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
    def test_what_stands_beside_the_data_stays_line_ends_included(self, end: bytes):
        lines = [b": a note 42", b"id: 7", b'data:{"choices":', b'data:  [{"text":"a 42"}]}', b": bye", b""]
        [one] = SseDecoder().feed(end.join([*lines, b""]) + b": next")
        after = write(one, {("choices", 0, "text"): "a [R]"})
        assert after == one.raw.replace(b'"a 42"', b'"a [R]"')

    def test_the_sdk_reads_what_was_edited(self):
        stream = opened()
        [first, *_] = reads = list(stream.read(SseDecoder().feed(WHOLE)))
        left = [stream.write(first, {first.deltas[0].address: "Twice "}, [])]
        left += [stream.write(read, {}, [1]) for read in reads[1:]]
        with sdk(b"".join(left), "text/event-stream") as client:
            parts = list(client.completions.create(model="m", prompt="a", stream=True))
        choices = [c for part in parts for c in part.choices]
        assert "".join(c.text for c in choices) == "Twice upon a time"
        assert {c.index for c in choices} == {0}
        assert choices[0].logprobs is None
        assert parts[-1].usage
        assert parts[-1].usage.total_tokens == 3


class TestTokensOfOtherText:
    """A server that holds back text for a stop sequence does not hold back its tokens."""

    LAGGING = (
        chunk(choice("a", 0, logprobs={"tokens": ["a", " sec"]}, token_ids=[1, 2])),
        chunk(choice(" sec", 0, logprobs={"tokens": ["ret"]}), choice("b", 1, logprobs={"tokens": ["b"]})),
        chunk(choice("", 0, "stop", logprobs={"tokens": ["<end>"]}), token={"text": "ret"}),
    )

    def test_they_go_and_those_of_the_text_stay(self):
        stream = opened()
        left = b"".join(stream.write(read, {}, ()) for read in stream.read(self.LAGGING))
        values = [orjson.loads(one.data or b"") for one in SseDecoder().feed(left)]
        assert [[c["logprobs"] for c in value["choices"]] for value in values] == [
            [None],
            [None, {"tokens": ["b"]}],
            [None],
        ]
        assert values[0]["choices"][0]["token_ids"] is None
        assert values[2]["token"] is None
        assert b"ret" not in left

    def test_behind_a_new_text_the_token_ids_of_its_choice_go(self):
        stream = opened()
        parts = [
            chunk(choice("42", index, logprobs={"tokens": ["42"]}, token_ids=[42])) for index in (0, 1, 0)
        ]
        first, *others = stream.read([*parts, event(b"[DONE]")])
        left = stream.write(first, {("choices", 0, "text"): "[R]"}, ())
        assert b"42" not in left
        one, two, done = (stream.write(read, {}, ()) for read in others)
        assert (one, done) == (parts[1].raw, b"data: [DONE]\n\n")
        [again] = orjson.loads(SseDecoder().feed(two)[0].data or b"")["choices"]
        assert (again["text"], again["logprobs"], again["token_ids"]) == ("42", {"tokens": ["42"]}, None)


class TestEnds:
    @pytest.mark.parametrize("spoke", [False, True])
    def test_a_halt_is_in_the_identity_of_the_latest_chunk_with_a_choice(self, spoke: bool):
        stream = opened()
        [*_] = stream.read([chunk(choice("a")), chunk(usage={}, id="other"), event(b"[DONE]")])
        [found] = completions(stream.halt(0, BLOCK, REFUSALS[0], spoke=spoke))
        assert (found.id, found.model, found.created) == ("cmpl-1", "theirs", 1_700_000_001)
        assert found.choices[0].text == ("" if spoke else REFUSALS[0].message)

    def test_a_halt_before_any_chunk_names_the_model_that_was_asked_for(self):
        [found] = completions(opened().halt(1, BLOCK, REFUSALS[1], spoke=False))
        assert (found.id, found.model) == ("cmpl-d-1", "m")

    @pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.finish_reason)
    def test_the_sdk_reads_a_stream_that_was_halted(self, refusal: Refusal):
        stream = opened()
        [read] = stream.read([chunk(choice("Once "))])
        left = stream.write(read, {}, ()) + stream.halt(0, BLOCK, refusal, spoke=True) + stream.end()
        assert left.endswith(b"data: [DONE]\n\n")
        with sdk(left, "text/event-stream") as client:
            parts = list(client.completions.create(model="m", prompt="a", stream=True))
        assert [part.choices[0].text for part in parts] == ["Once ", ""]
        assert parts[-1].choices[0].finish_reason == refusal.finish_reason

    def test_in_the_error_style_a_halt_is_an_error_that_the_sdk_raises(self):
        stream = opened()
        [read] = stream.read([chunk(choice(f"{MARK}text"))])
        halt = stream.halt(0, BLOCK, Refusal("error", "No."), spoke=True)
        assert MARK.encode() not in halt
        with sdk(read.event.raw + halt, "text/event-stream") as client:
            parts = client.completions.create(model="m", prompt="a", stream=True)
            assert next(parts).choices[0].text == f"{MARK}text"
            with pytest.raises(openai.APIError, match=r"No\.") as caught:
                next(parts)
        assert caught.value.code == "content_filter"

    def test_an_error_in_mid_stream_is_raised_by_the_sdk_and_does_not_look_like_an_end(self):
        stream = opened().error("guardrail_unavailable", "Not checked.")
        assert b"[DONE]" not in stream
        assert stream == encode(
            b'{"error":{"message":"Not checked.","type":"guardrail_error","param":null,'
            b'"code":"guardrail_unavailable"}}'
        )
        with sdk(stream, "text/event-stream") as client:
            parts = client.completions.create(model="m", prompt="a", stream=True)
            with pytest.raises(openai.APIError, match="Not checked"):
                next(parts)


def test_a_chunk_is_an_answer_but_for_its_frame():
    """Both have one shape in this API, so one reader serves both."""
    assert chunk(choice("a")).data == answer(choice("a"))
