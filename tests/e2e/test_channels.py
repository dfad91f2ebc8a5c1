"""The channels of an answer are apart: redacting one changes nothing but its own text.

The upstream streams them all interleaved: two choices, reasoning before content, a refusal, two tool
calls side by side, a usage chunk, log probabilities, annotations and fields that nobody knows. What the
client must get is worked out from the upstream's own bytes.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import openai
import pydantic
import pytest

from tests.e2e.conftest import CHAT, MARK, REFUSAL, Proxies, Proxy, ruling, until
from tests.fakes import DONE, Say, chunk

EVENTS = {"content-type": "text/event-stream"}
CALM = "a-calm-one"  # as long as what is redacted
WORD = "redactword"
LEAD = "Some words that nobody minds, enough of them to fill more than a window, é😀 included: "
TEXTS = {
    "reasoning_content": LEAD + "I think of {}, then of the sea.",
    "reasoning_details": LEAD + "I think of {} in parts.",
    "content": LEAD + 'the answer is {}, and "that" is\nall of it.',
    "refusal": LEAD + "I will not say {} to you.",
    "first call": json.dumps({"place": "Oslo, {}", "day": 7, "note": LEAD}),
    "second call": json.dumps({"to": [LEAD, {"who": "{}"}], "n": 1.50}, ensure_ascii=False),
}


def texts(redacted: str | None = None) -> dict[str, str]:
    """The text of each channel; in one of them stands the word that gets redacted."""
    return {name: text.replace("{}", WORD if name == redacted else CALM) for name, text in TEXTS.items()}


def pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def call(index: int, arguments: str, **head: Any) -> dict[str, Any]:
    name = {"name": head.pop("name")} if head else {}
    return {"tool_calls": [{"index": index, **head, "function": {**name, "arguments": arguments}}]}


def head(index: int, name: str) -> dict[str, Any]:
    return call(index, "", id=f"call_{index}", type="function", name=name)


def alternating(*sequences: list[Any]) -> Iterator[Any]:
    for row in itertools.zip_longest(*sequences):
        yield from (item for item in row if item is not None)


def first_choice(said: Mapping[str, str]) -> list[dict[str, Any]]:
    """Reasoning, then content with log probabilities, and an annotation in the middle."""
    thoughts = [{"delta": {"reasoning_content": p}} for p in pieces(said["reasoning_content"], 7)]
    words = [
        {
            "delta": {"content": p, "x_weight": 0.10},
            "logprobs": {"content": [{"token": p, "logprob": -0.10, "bytes": None, "top_logprobs": []}]},
        }
        for p in pieces(said["content"], 5)
    ]
    cited = {
        "delta": {"annotations": [{"type": "url_citation", "url_citation": {"url": "http://a.invalid"}}]}
    }
    words.insert(len(words) // 2, cited)
    return [
        {"delta": {"role": "assistant", "content": ""}},
        *thoughts,
        *words,
        {"delta": {}, "finish_reason": "stop", "content_filter_results": {}},
    ]


def second_choice(said: Mapping[str, str]) -> list[dict[str, Any]]:
    """Reasoning in its structured form, a refusal, then two calls whose pieces alternate."""
    details = [
        {"reasoning_details": [{"type": "reasoning.text", "text": p, "index": 0}]}
        for p in pieces(said["reasoning_details"], 9)
    ]
    refused = [{"refusal": p} for p in pieces(said["refusal"], 6)]
    one, other = (
        [call(i, p) for p in pieces(said[n], 4)] for i, n in enumerate(("first call", "second call"))
    )
    calls = [head(0, "look"), head(1, "send"), *alternating(one, other)]
    deltas = [{"role": "assistant", "content": None}, *details, *refused, *calls]
    return [*({"delta": delta} for delta in deltas), {"delta": {}, "finish_reason": "tool_calls"}]


def event(choice: dict[str, Any], index: int, number: int) -> bytes:
    """One choice's piece as a chunk, each a little different beside its text."""
    body = {
        "id": "chatcmpl-1",
        "choices": [{"index": index, "finish_reason": None, **choice}],
        "usage": None,
        "x_unknown": {"a": [1, 2.50, {"content": "none of it"}], "n": number},
    }
    data = json.dumps(body, separators=((",", ":") if number % 2 else (" , ", " :"))).encode()
    before = [b"", b"event: chunk\n", b": a comment\nid: %d\n" % number, b"retry:5\n"][number % 4]
    return before + b"data:" + b" " * (number % 3 != 1) + data + b"\n\n"


def tape(said: Mapping[str, str], choices: int = 2) -> list[bytes]:
    """The whole stream, event by event."""
    both = [
        [(index, choice) for choice in own(said)]
        for index, own in enumerate((first_choice, second_choice)[:choices])
    ]
    events = [event(choice, index, n) for n, (index, choice) in enumerate(alternating(*both))]
    return [
        b": here we go\n\n",
        *events,
        b'data: {"id":"chatcmpl-1","choices":[],"usage":{"total_tokens":7.0e1}}\n\n',
        DONE,
    ]


def ask(proxy: Proxy, events: list[bytes], **more: Any) -> list[bytes]:
    """The events that the client gets."""
    proxy.upstream.script.append(Say(headers=EVENTS, chunks=events))
    body = {
        "model": "m",
        "stream": True,
        "n": 2,
        "messages": [{"role": "user", "content": "hello"}],
        **more,
    }
    got = proxy.post(body)
    assert got.status_code == 200
    return re.findall(rb".*?\n\n", got.content, re.DOTALL)


def strings(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from strings(inner, (*way, step))
    elif isinstance(value, str):
        yield way, value


def channel(choice: int, way: tuple[Any, ...]) -> str:
    """The channel of the text at this place of a chunk's first choice; empty for what is no channel's."""
    if way[:3] != ("choices", 0, "delta"):
        return ""
    if way[3] == "tool_calls" and way[-1] == "arguments":
        return "call"
    return way[3] if way[3] in TEXTS and (len(way) == 4 or way[-1] == "text") else ""


def changes(before: list[bytes], after: list[bytes], name: str) -> str:
    """The text of a channel as it arrived; asserts that nothing else differs, byte for byte."""
    assert len(after) == len(before)
    arrived: list[str] = []
    for old, new in zip(before, after, strict=True):
        data = old.partition(b"data:")[2]
        if b"{" not in data:
            assert new == old
            continue
        was, now = json.loads(data), json.loads(new.partition(b"data:")[2])
        expected = old
        for way, text in strings(was):
            index = was["choices"][0]["index"] if was["choices"] else 0
            kind = channel(index, way)
            own = kind == name
            if kind == "call":
                number = was["choices"][0]["delta"]["tool_calls"][0]["index"]
                own = name == ("first call", "second call")[number]
            if not own:
                continue
            got = dict(strings(now))[way]
            arrived.append(got)
            if got == text:
                continue
            key, old_text, new_text = (json.dumps(value).encode() for value in (way[-1], text, got))
            spot = re.compile(re.escape(key) + rb" ?: ?" + re.escape(old_text))
            assert len(spot.findall(expected)) == 1
            written = json.dumps(got, ensure_ascii=False).encode()
            expected = spot.sub(lambda m, w=written, o=old_text: m[0].removesuffix(o) + w, expected)
            expected = re.sub(rb'("logprobs" ?: ?)\{.*?\]\s*\}\s*\]\s*\}', rb"\1null", expected)
            assert new_text != old_text
        assert new == expected
    return "".join(arrived)


class TestStreams:
    def test_all_channels_pass_byte_for_byte(self, proxy: Proxy) -> None:
        events = tape(texts())
        assert ask(proxy, events) == events

    @pytest.mark.parametrize("name", TEXTS)
    def test_redacting_one_channel_changes_nothing_but_its_text(self, proxy: Proxy, name: str) -> None:
        said = texts(name)
        events = tape(said)
        arrived = changes(events, ask(proxy, events), name)
        assert arrived == said[name].replace(WORD, MARK)

    def test_a_redaction_in_every_channel_at_once(self, proxy: Proxy) -> None:
        said = {name: text.replace("{}", WORD) for name, text in TEXTS.items()}
        got = b"".join(ask(proxy, tape(said)))
        assert WORD.encode() not in got
        assert got.count(MARK.encode()) == len(TEXTS)

    def test_a_blocked_call_takes_its_choice_along_and_no_other(self, proxy: Proxy) -> None:
        said = texts()
        said["second call"] = said["second call"].replace(CALM, "blockword")
        before = tape(said)
        after = ask(proxy, before)
        theirs = re.compile(rb'"index" ?: ?0')
        mine = [raw for raw in before if theirs.search(raw.partition(b'"delta"')[0])]
        assert [raw for raw in after if raw in mine] == mine
        assert b"blockword" not in b"".join(after)
        ends = [
            (choice["index"], choice["finish_reason"])
            for raw in after
            if (data := raw.partition(b"data:")[2].strip()).startswith(b"{")
            for choice in json.loads(data)["choices"]
            if choice.get("finish_reason")
        ]
        assert sorted(ends) == [(0, "stop"), (1, "content_filter")]

    @pytest.mark.parametrize("blocked", [0, 1])
    def test_calls_side_by_side_leave_together_or_not_at_all(self, proxy: Proxy, blocked: int) -> None:
        """The other call is judged long before, but it ends behind the beginning of the blocked one."""
        proxy.judge.words["slowblock"] = Say(ruling(1, "BLK"), delay_s=0.3)
        arguments = [json.dumps({"a": "slowblock" if i == blocked else CALM}) for i in range(2)]
        calls = [head(0, "look"), head(1, "send"), *(call(i, text) for i, text in enumerate(arguments))]
        deltas = [{"role": "assistant", "content": "Well."}, *calls]
        events = [*map(chunk, deltas), chunk({}, finish_reason="tool_calls"), DONE]
        after = ask(proxy, events, n=1)
        assert after[0] == events[0]
        assert b"tool_calls" not in b"".join(after)
        assert json.loads(after[1][6:])["choices"][0]["finish_reason"] == "content_filter"
        assert after[2:] == [DONE]

    def test_no_part_of_a_call_leaves_before_all_of_it_was_judged(self, proxy: Proxy) -> None:
        """The upstream stalls within the calls: what was said before them leaves, they do not."""
        events = tape(texts())
        begun = next(n for n, raw in enumerate(events) if b"look" in raw)
        stalled = [*events[:-10], *([b": stalled\n\n"] * 400)]
        proxy.upstream.script.append(Say(headers=EVENTS, chunks=stalled, pause_s=0.005))
        body = {"model": "m", "stream": True, "n": 2, "messages": [{"role": "user", "content": "hello"}]}
        got = b""
        with proxy.http.stream("POST", CHAT, json=body) as response:
            arriving = response.iter_raw()  # to let go of it would hang up
            while got != b"".join(events[:begun]):
                got += next(arriving)
            # The first choice's last words came behind the beginning of the calls.
            until(lambda: any("all of it" in text for text in proxy.judge.judged), "they are judged")
        assert not any("Oslo" in text for text in proxy.judge.judged)
        until(
            lambda: proxy.upstream.seen[-1].cancelled, "the upstream is cancelled when the client has gone"
        )


def sdk_calls(client: openai.OpenAI) -> list[tuple[str, str]]:
    """Name and arguments of each call of the second choice, put together from the stream."""
    asked: Any = [{"role": "user", "content": "hello"}]
    found: dict[int, list[str]] = {}
    for part in client.chat.completions.create(model="m", messages=asked, n=2, stream=True):
        for choice in part.choices:
            for own in choice.delta.tool_calls or []:
                assert own.function is not None
                texts = found.setdefault(own.index, ["", ""])
                texts[0] += own.function.name or ""
                texts[1] += own.function.arguments or ""
    return [(name, arguments) for _, (name, arguments) in sorted(found.items())]


class TestTheSdk:
    def test_arguments_stay_valid_json_in_a_stream(self, proxy: Proxy, client: openai.OpenAI) -> None:
        said = {name: text.replace("{}", WORD) for name, text in TEXTS.items()}
        proxy.upstream.script.append(Say(headers=EVENTS, chunks=tape(said)))
        (first, one), (second, other) = sdk_calls(client)
        assert (first, second) == ("look", "send")
        assert json.loads(one) == {"place": f"Oslo, {MARK}", "day": 7, "note": LEAD}
        assert json.loads(other) == {"to": [LEAD, {"who": MARK}], "n": 1.5}

    @pytest.mark.parametrize(
        ("arguments", "redacted"),
        [
            ('{"redactword":1}', {MARK: 1}),
            ('["redactword","a\\"redactword\\\\"]', [MARK, f'a"{MARK}\\']),
            ('{"a":"re\\u0064actword"}', {"a": MARK}),
            ('{"a":"x","b":{"c":["redactword redactword"]}}', {"a": "x", "b": {"c": [f"{MARK} {MARK}"]}}),
        ],
    )
    def test_wherever_it_stands_in_them(
        self, proxy: Proxy, client: openai.OpenAI, arguments: str, redacted: Any
    ) -> None:
        proxy.judge.words["u0064actword"] = Say(ruling(1, "RED", excerpts=[WORD]))
        deltas = [{"role": "assistant"}, head(0, "f"), *(call(0, p) for p in pieces(arguments, 3))]
        chunks = [*map(chunk, deltas), chunk({}, finish_reason="tool_calls"), DONE]
        proxy.upstream.script.append(Say(headers=EVENTS, chunks=chunks))
        [(name, got)] = sdk_calls(client)
        assert (name, json.loads(got)) == ("f", redacted)


def body(said: Mapping[str, str]) -> bytes:
    """An answer in one body with all channels, oddly spaced."""
    logprobs = '{"content": [{"token": "a", "logprob": -0.10}]}'
    quoted = {name: json.dumps(text) for name, text in said.items()}
    calls = ", ".join(
        f'{{"id": "c", "type" :"function","function":{{"name":"f","arguments":{quoted[name]}}}}}'
        for name in ("first call", "second call")
    )
    return (
        f'{{"x_unknown": [1.0e3 ], "choices" :[ {{"index":0,"message":{{"role":"assistant",'
        f'"reasoning_content": {quoted["reasoning_content"]}, "annotations":[],'
        f'"content":{quoted["content"]} }}, "logprobs": {logprobs}, "finish_reason":"stop"}},\n'
        f'{{"index":1,"message":{{"content":null,"refusal":{quoted["refusal"]},"reasoning_details":'
        f'[{{"type":"reasoning.text","text":{quoted["reasoning_details"]}}}],"tool_calls":[{calls}]}},'
        f'"logprobs":{logprobs},"finish_reason":"tool_calls"}}],"usage":{{"total_tokens":7}}}}\n'
    ).encode()


class TestBodies:
    @pytest.mark.parametrize("name", [None, *TEXTS])
    def test_redacting_one_channel_changes_nothing_but_its_text(
        self, proxy: Proxy, name: str | None
    ) -> None:
        raw = body(texts(name))
        proxy.upstream.script.append(Say(raw))
        got = proxy.post({"model": "m", "n": 2, "messages": [{"role": "user", "content": "hello"}]})
        expected = raw
        if name is not None:
            old, new = texts(name)[name], texts(name)[name].replace(WORD, MARK)
            expected = raw.replace(json.dumps(old).encode(), json.dumps(new, ensure_ascii=False).encode())
            assert expected != raw
            first, gone, second, *rest = re.split(rb'(\{"content": \[.*?\]\})', expected)
            if name in ("content", "reasoning_content"):
                expected = first + b"null" + second + b"".join(rest)
            else:
                expected = first + gone + second + b"null" + rest[-1]
        assert got.content == expected


class City(pydantic.BaseModel):
    name: str
    degrees: int


CITY = json.dumps({"name": LEAD + "{}", "degrees": 3})
PROMPT: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
def stopping(proxies: Proxies) -> Iterator[openai.OpenAI]:
    """A client of a proxy whose refusals end in ``stop``, which the SDK's parsers let through."""
    proxy = proxies(refusal={"input": {"finish_reason": "stop"}, "output": {"finish_reason": "stop"}})
    with proxy.openai(max_retries=0) as sdk:
        yield sdk


class TestStructuredRefusals:
    """Where content is parsed, a refusal stands in its own channel; the SDK's parsers give it out."""

    @pytest.mark.parametrize(
        ("prompt", "city"), [("blockword", CALM), ("hello", "blockword")], ids=["prompt", "answer"]
    )
    def test_the_sdk_gives_it_and_parses_nothing(
        self, proxies: Proxies, stopping: openai.OpenAI, prompt: str, city: str
    ) -> None:
        proxies.upstream.text = CITY.replace("{}", city)
        asked: Any = [{"role": "user", "content": prompt}]
        parsed = stopping.chat.completions.parse(model="m", messages=asked, response_format=City)
        with stopping.chat.completions.stream(model="m", messages=asked, response_format=City) as events:
            streamed = events.until_done().get_final_completion()
        for answer in (parsed, streamed):
            message = answer.choices[0].message
            assert (message.role, message.refusal, message.parsed) == ("assistant", REFUSAL, None)
            assert answer.choices[0].finish_reason == "stop"
        assert parsed.choices[0].message.content is None

    def test_after_text_has_left_too(self, proxies: Proxies, stopping: openai.OpenAI) -> None:
        """What has left is the beginning of a document that will never end; the refusal says so."""
        proxies.upstream.text = CITY.replace("{}", LEAD * 3 + "blockword")
        proxies.upstream.pause_s = 0.003
        with stopping.chat.completions.stream(model="m", messages=PROMPT, response_format=City) as events:
            kinds = [event.type for event in events]
            message = events.get_final_completion().choices[0].message
        assert (message.role, message.refusal, message.parsed) == ("assistant", REFUSAL, None)
        assert kinds.count("refusal.done") == 1
        assert message.content
        assert proxies.upstream.text.startswith(message.content)

    @pytest.mark.parametrize("prompt", ["hello", "blockword"])
    def test_with_content_filter_the_sdk_raises_its_own_error_for_that(
        self, proxy: Proxy, client: openai.OpenAI, prompt: str
    ) -> None:
        proxy.upstream.text = CITY.replace("{}", "blockword")
        asked: Any = [{"role": "user", "content": prompt}]
        with pytest.raises(openai.ContentFilterFinishReasonError):
            client.chat.completions.parse(model="m", messages=asked, response_format=City)
        streamed = client.chat.completions.stream(model="m", messages=asked, response_format=City)
        with pytest.raises(openai.ContentFilterFinishReasonError), streamed as events:
            events.until_done()
        raw = client.chat.completions.create(
            model="m", messages=asked, response_format={"type": "json_object"}
        )
        message = raw.choices[0].message
        assert (message.content, message.refusal) == (None, REFUSAL)

    def test_a_redacted_document_is_parsed(self, proxy: Proxy, client: openai.OpenAI) -> None:
        proxy.upstream.text = CITY.replace("{}", WORD)
        parsed = client.chat.completions.parse(model="m", messages=PROMPT, response_format=City)
        with client.chat.completions.stream(model="m", messages=PROMPT, response_format=City) as events:
            streamed = events.until_done().get_final_completion()
        for answer in (parsed, streamed):
            assert answer.choices[0].message.parsed == City(name=LEAD + MARK, degrees=3)

    def test_any_other_refusal_is_content(self, client: openai.OpenAI) -> None:
        asked: Any = [{"role": "user", "content": "a blockword"}]
        for format_ in ({"type": "text"}, openai.omit):
            message = (
                client.chat.completions.create(model="m", messages=asked, response_format=format_)
                .choices[0]
                .message
            )
            assert (message.content, message.refusal) == (REFUSAL, None)
