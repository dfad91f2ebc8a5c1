"""Streams, byte by byte: a redacted value never leaves in part, and what passes leaves as it came."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.e2e.conftest import Proxies, Proxy, ruling, until
from tests.fakes import DONE, Say, chunk

# The needle is made of signs that stand nowhere else in the answers, nor in the mark put in its place.
NEEDLE = "4929-0173-8856-2041"
MARK = "[REDACTED:RED]"
LEAD = "some plain words that lead up to it, long enough to have left before it comes: "
TAIL = " and some more plain words behind it, so that a second and a third window are judged as well."
EVENTS = {"content-type": "text/event-stream"}


@pytest.fixture(autouse=True)
def _needle(proxies: Proxies) -> None:
    proxies.judge.words[NEEDLE] = Say(ruling(1, "RED", excerpts=[NEEDLE]))


def body(**more: Any) -> dict[str, Any]:
    return {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}], **more}


def answer(pieces: Sequence[str]) -> Say:
    events = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": piece}) for piece in pieces)]
    return Say(headers=EVENTS, chunks=[*events, chunk({}, finish_reason="stop"), DONE])


def contents(raw: bytes) -> list[str]:
    """The text of every chunk that the client got."""
    events = [line[6:] for line in raw.decode().splitlines() if line.startswith("data: {")]
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return [choice["delta"].get("content") or "" for choice in choices]


def assert_redacted(raw: bytes, lead: str, tail: str) -> None:
    text = "".join(contents(raw))
    assert not any(sign in text for sign in "0123456789"), text
    assert text == f"{lead}{MARK}{tail}"
    assert raw.endswith(DONE)


def cut(text: str, places: Sequence[int]) -> list[str]:
    edges = [0, *sorted({place for place in places if 0 < place < len(text)}), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


@pytest.mark.parametrize("position", range(len(NEEDLE) + 1))
def test_a_needle_split_at_any_position_leaves_no_part(proxy: Proxy, position: int) -> None:
    at = len(LEAD) + position
    proxy.upstream.script.append(answer(cut(LEAD + NEEDLE + TAIL, [at])))
    assert_redacted(proxy.post(body()).content, LEAD, TAIL)


def test_a_needle_in_single_characters_leaves_no_part(proxy: Proxy) -> None:
    proxy.upstream.script.append(answer(list(LEAD + NEEDLE + TAIL)))
    assert_redacted(proxy.post(body()).content, LEAD, TAIL)


@pytest.mark.parametrize("lead", [LEAD[:n] for n in range(0, len(LEAD), 7)], ids=len)
def test_a_needle_at_any_place_of_the_window_leaves_no_part(proxy: Proxy, lead: str) -> None:
    proxy.upstream.script.append(answer(list(lead + NEEDLE)))
    assert_redacted(proxy.post(body()).content, lead, "")


def test_a_needle_that_arrives_while_a_check_runs_leaves_no_part(proxy: Proxy) -> None:
    """The first window's verdict comes late; the next check covers all that has arrived by then."""
    lead = f"lateword {LEAD}"
    say = answer(list(lead + NEEDLE + TAIL))
    say.pause_s = 0.001
    proxy.upstream.script.append(say)
    assert_redacted(proxy.post(body()).content, lead, TAIL)


def test_several_needles_side_by_side_leave_no_part(proxy: Proxy) -> None:
    proxy.upstream.script.append(answer(list(LEAD + NEEDLE + " " + NEEDLE + TAIL)))
    assert_redacted(proxy.post(body()).content, LEAD, f" {MARK}{TAIL}")


@given(places=st.lists(st.integers(0, len(LEAD + NEEDLE + TAIL)), max_size=40), network=st.integers(1, 400))
@example(places=[], network=1)
def test_no_chunking_shows_a_part(proxy: Proxy, places: list[int], network: int) -> None:
    """Neither that of the model's words into events nor that of the events into packets."""
    say = answer(cut(LEAD + NEEDLE + TAIL, places))
    whole = b"".join(say.chunks or [])
    say.chunks = [whole[i : i + network] for i in range(0, len(whole), network)]
    proxy.upstream.script.append(say)
    assert_redacted(proxy.post(body()).content, LEAD, TAIL)


def test_a_client_sees_no_part_while_the_stream_is_still_running(proxy: Proxy) -> None:
    """The upstream stalls behind half of the needle: what has arrived by then holds none of it."""
    words = [*cut(LEAD, range(0, len(LEAD), 10)), NEEDLE[:10]]
    say = answer(words)
    say.chunks = [*(say.chunks or [])[:-2], b": stalled\n\n"] + [b": still here\n\n"] * 400
    say.pause_s = 0.005
    proxy.upstream.script.append(say)
    got = b""
    with proxy.http.stream("POST", "/v1/chat/completions", json=body()) as response:
        for part in response.iter_raw():
            got += part
            if contents(got)[1:]:
                break
    text = "".join(contents(got))
    assert text
    assert LEAD.startswith(text)
    until(lambda: proxy.upstream.seen[-1].cancelled, "the upstream is cancelled when the client has gone")


STREAMS = {
    "as OpenAI writes it": [
        chunk(
            {"role": "assistant", "content": "", "refusal": None}, service_tier="default", obfuscation="aX"
        ),
        *(chunk({"content": w}, obfuscation="bYz") for w in ("The ", "weather ", "is ", "fine.")),
        chunk({}, finish_reason="stop", usage=None),
        b'data: {"id":"x","object":"chat.completion.chunk","choices":[],"usage":{"total_tokens":7}}\n\n',
        DONE,
    ],
    "carriage returns": [
        chunk({"content": "The weather"}).replace(b"\n", b"\r\n"),
        chunk({"content": " is fine."}).replace(b"\n", b"\r\n"),
        chunk({}, finish_reason="stop").replace(b"\n", b"\r\n"),
        DONE.replace(b"\n", b"\r\n"),
    ],
    "comments, names and odd spacing": [
        b": OPENROUTER PROCESSING\n\n",
        b"event: chunk\nid: 7\nretry: 100\n" + chunk({"content": "The weather"}),
        b'data:{"choices" : [ {"index":0,"delta":{"content":" is\\u0020fine \\ud83d\\ude00"} } ]}\n\n',
        b'data: {"choices":\ndata: [{"index":0,"delta":{"content":"."},"finish_reason":"stop"}]}\n\n',
        b": bye\n\n",
        DONE,
    ],
    "unknown fields, log probabilities, reasoning": [
        chunk({"reasoning_content": "I think about it."}, x_unknown={"a": [1, 2.5]}),
        b'data: {"choices":[{"index":0,"delta":{"content":"Fine"},"logprobs":{"content":[{"token":"Fine",'
        b'"logprob":-0.10,"bytes":[70],"top_logprobs":[]}]},"finish_reason":null}],"n":1.0e2}\n\n',
        chunk({"content": ""}, finish_reason="length"),
        DONE,
    ],
    "several choices, interleaved": [
        *(chunk({"content": f"{word} "}, index=i) for word in ("one", "two", "three") for i in (2, 0, 1)),
        *(chunk({}, index=i, finish_reason="stop") for i in (1, 2, 0)),
        DONE,
    ],
    "a tool call": [
        chunk(
            {
                "tool_calls": [
                    {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
                ]
            }
        ),
        *(
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
            for part in ('{"pl', 'ace": ', '"Oslo"}')
        ),
        chunk({}, finish_reason="tool_calls"),
        DONE,
    ],
    "no closing blank line": [
        chunk({"content": "Fine."}),
        chunk({}, finish_reason="stop"),
        b"data: [DONE]",
    ],
    "nothing at all": [DONE],
    "an answer without text": [
        chunk({"role": "assistant", "content": ""}),
        chunk({}, finish_reason="stop"),
        DONE,
    ],
    "an error of the upstream's inside its stream": [
        chunk({"content": "Fi"}),
        b'data: {"error": {"message": "overloaded", "type": "server_error", "code": 529}}\n\n',
    ],
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("network", [None, 1, 7])
def test_a_stream_that_passes_arrives_byte_for_byte(proxy: Proxy, name: str, network: int | None) -> None:
    whole = b"".join(STREAMS[name])
    packets = [whole[i : i + network] for i in range(0, len(whole), network)] if network else STREAMS[name]
    proxy.upstream.script.append(Say(headers=EVENTS, chunks=packets))
    got = proxy.post(body(n=3) if "several" in name else body())
    assert got.status_code == 200
    assert got.headers["content-type"] == "text/event-stream"
    assert got.content == whole


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("network", [None, 1, 5])
def test_a_redacted_event_keeps_all_that_is_not_its_text(
    proxy: Proxy, end: bytes, network: int | None
) -> None:
    """Name, id, comments, spacing, line ends, and lines of data cut between tokens."""
    events = [
        b": note\nevent: chunk\nid: 1\n" + chunk({"content": LEAD}),
        b'id: 2\ndata:{"choices" :[\n: why not\ndata:  {"index":0, "delta":{"content":"my 4929-0173"}}\n'
        b'retry: 10\ndata: ], "n":1.0}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"-8856-2041."},"logprobs":{"content":[1]}}]}\n'
        b"event: last\n\n",
        chunk({}, finish_reason="stop"),
        DONE,
    ]
    whole = b"".join(events).replace(b"\n", end)
    packets = [whole[i : i + network] for i in range(0, len(whole), network)] if network else [whole]
    proxy.upstream.script.append(Say(headers=EVENTS, chunks=packets))
    expected = whole.replace(b"4929-0173", MARK.encode()).replace(b"-8856-2041", b"")
    assert proxy.post(body()).content == expected.replace(b'{"content":[1]}', b"null")


REPEATED = b'data: {"choices":[{"index":0,"delta":{"content":"one","content":"other"}}]}\n\n'


def test_a_chunk_that_repeats_a_key_reaches_nobody(proxy: Proxy) -> None:
    proxy.upstream.script.append(Say(headers=EVENTS, chunks=[REPEATED, DONE]))
    got = proxy.post(body())
    assert (got.status_code, got.json()["error"]["code"]) == (502, "upstream_unreadable")
    proxy.upstream.script.append(
        Say(headers=EVENTS, chunks=[*(answer([LEAD]).chunks or [])[:2], REPEATED, DONE])
    )
    got = proxy.post(body())
    assert "".join(contents(got.content.rpartition(b"data:")[0])) == LEAD
    assert json.loads(got.content.rpartition(b"data:")[2])["error"]["code"] == "upstream_unreadable"
    assert b"other" not in got.content


BODIES = [
    b'{"choices" :[ {"index":0, "message":{"role":"assistant","content":"Fine \\u00e9\\ud83d\\ude00"},'
    b'"finish_reason":"stop","x":1.50}],  "usage":{"prompt_tokens":1e2} , "unknown":[{}, null]}\n',
    b'{"choices":[]}',
    b'{"choices":[{"message":{"content":null,"tool_calls":[{"id":"c","type":"function",'
    b'"function":{"name":"f","arguments":"{\\"a\\": 1.0}"}}]}}]}',
]


@pytest.mark.parametrize("raw", BODIES)
def test_an_answer_that_passes_arrives_byte_for_byte(proxy: Proxy, raw: bytes) -> None:
    proxy.upstream.script.append(
        Say(raw, headers={"content-type": "application/json", "x-request-id": "r7"})
    )
    got = proxy.post(body(stream=False))
    assert got.content == raw
    assert got.headers["x-request-id"] == "r7"
    assert got.headers["content-length"] == str(len(raw))


def test_a_request_that_passes_reaches_the_upstream_byte_for_byte(proxy: Proxy) -> None:
    raw = (
        b'{ "messages":[ {"role":"user","content":"h\\u00e9llo \\ud83d\\ude00"} ],"temperature":0.70,\n'
        b'"x_unknown":{"deep":[1e3,{"a":null}]},"model":"m" }'
    )
    assert proxy.post(raw).status_code == 200
    assert proxy.upstream.seen[-1].body == raw


def test_only_the_redacted_string_of_a_request_changes(proxy: Proxy) -> None:
    raw = b'{ "seed":1.0,"messages":[ {"role":"user" ,"content":"a redactword b"} ],"x":[1e3 ]}'
    assert proxy.post(raw).status_code == 200
    assert proxy.upstream.seen[-1].body == raw.replace(b"redactword", MARK.encode())


@pytest.mark.parametrize("status", [302, 400, 401, 404, 429, 500, 503])
def test_an_upstreams_error_passes_byte_for_byte(proxy: Proxy, status: int) -> None:
    raw = b'{"error": {"message": "not today",  "code": null}}'
    headers = {"content-type": "application/json", "retry-after": "7", "x-ratelimit-remaining": "0"}
    proxy.upstream.script.append(Say(raw, status=status, headers=headers))
    got = proxy.post(body(), follow_redirects=False)
    assert (got.status_code, got.content) == (status, raw)
    assert got.headers["retry-after"] == "7"
    assert got.headers["x-guardrail-decision"] == "pass"


def test_an_upstream_cannot_set_our_headers(proxy: Proxy) -> None:
    forged = {
        "x-guardrail-decision": "forged",
        "X-Guardrail-Forged": "1",
        "content-type": "application/json",
    }
    proxy.upstream.script.append(Say(BODIES[1], headers=forged))
    got = proxy.post(body(stream=False))
    assert got.headers.get_list("x-guardrail-decision") == ["pass"]
    assert "x-guardrail-forged" not in got.headers


def test_reading_waits_while_too_much_is_held(proxies: Proxies) -> None:
    """A judge that is slower than the model holds the model up; what is held stays bounded."""
    proxy = proxies(streaming={"max_held_chars": 1000})
    say = answer([f"lateword {n:05} " for n in range(2000)])
    whole = b"".join(say.chunks or [])
    proxy.upstream.script.append(say)
    assert proxy.post(body()).content == whole
    answers = [text for text in proxy.judge.judged if "lateword" in text]
    assert 900 < max(map(len, answers)) <= 1000 + 16 * len("lateword 00000 ")  # a run of events
