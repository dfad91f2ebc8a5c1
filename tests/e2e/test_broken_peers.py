"""An upstream, a judge or a client that breaks: what is answered, cancelled and recorded."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.conftest import (
    CALM,
    CHAT,
    MARK,
    WORDS,
    Proxies,
    Proxy,
    WordJudge,
    free_port,
    start_proxy,
    until,
)
from tests.fakes import DONE, FakeUpstream, Say, chunk, completion, stream, verdict

EVENTS = {"content-type": "text/event-stream"}
HTML = {"content-type": "text/html; charset=utf-8"}
JSON = {"content-type": "application/json"}
STREAMING = pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
LONG = "One two three four five six seven eight nine ten. " * 6


def body(prompt: str = "hello", *, streaming: bool = False) -> dict[str, Any]:
    return {"model": "m", "stream": streaming, "messages": [{"role": "user", "content": prompt}]}


def sse(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def assert_error(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["type"] == "guardrail_error"
    assert answer.headers["x-guardrail-id"]


def assert_cut(answer: httpx.Response, code: str) -> str:
    """The stream ends in an error event and does not look whole; returns the text that left."""
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert json.loads(events[-1])["error"]["code"] == code
    assert "[DONE]" not in answer.text
    choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
    assert not any(choice["finish_reason"] for choice in choices)
    return "".join(choice["delta"].get("content") or "" for choice in choices)


class TestUpstream:
    @STREAMING
    def test_that_dies_before_its_head_is_502(self, proxy: Proxy, streaming: bool) -> None:
        proxy.upstream.script.append(Say(drop=True))
        answer = proxy.post(body(streaming=streaming))
        assert_error(answer, 502, "upstream_unavailable")
        (record,) = proxy.recorded(answer.headers["x-guardrail-id"], "input")
        assert record["action"] == "pass"

    @STREAMING
    def test_that_is_not_there_is_502(self, proxies: Proxies, streaming: bool) -> None:
        proxy = proxies(upstream={"base_url": f"http://127.0.0.1:{free_port()}/v1"})
        assert_error(proxy.post(body(streaming=streaming)), 502, "upstream_unavailable")
        assert proxy.http.get("/v1/models").json()["error"]["code"] == "upstream_unavailable"

    def test_that_dies_in_a_body_is_502_and_nothing_of_it_leaves(self, proxy: Proxy) -> None:
        proxy.upstream.script.append(Say(chunks=[completion(CALM)[:-20]], drop=True))
        answer = proxy.post(body())
        assert_error(answer, 502, "upstream_unavailable")
        assert CALM not in answer.text

    def test_that_dies_in_an_error_is_502(self, proxy: Proxy) -> None:
        proxy.upstream.script.append(Say(status=500, chunks=[b""], headers=JSON, drop=True))
        assert_error(proxy.post(body()), 502, "upstream_unavailable")

    def test_that_dies_in_mid_stream_gives_what_was_judged_and_an_error(self, proxy: Proxy) -> None:
        say = stream([word + " " for word in LONG.split()])
        proxy.upstream.script.append(Say(headers=EVENTS, chunks=(say.chunks or [])[:-2], drop=True))
        answer = proxy.post(body(streaming=True))
        assert assert_cut(answer, "upstream_unavailable") == LONG
        proxy.recorded(answer.headers["x-guardrail-id"], "input", "output")

    @pytest.mark.parametrize("part", ["one ", "a blockword, "])
    def test_that_dies_in_mid_stream_never_lets_unjudged_text_leave(self, proxy: Proxy, part: str) -> None:
        proxy.upstream.script.append(Say(headers=EVENTS, chunks=[chunk({"content": part})], drop=True))
        answer = proxy.post(body(streaming=True))
        assert "blockword" not in answer.text
        assert "[DONE]" not in answer.text or "content_filter" in answer.text

    def test_that_dies_in_mid_stream_makes_the_sdk_raise(self, proxy: Proxy) -> None:
        say = stream([word + " " for word in LONG.split()])
        proxy.upstream.script.append(Say(headers=EVENTS, chunks=(say.chunks or [])[:-2], drop=True))
        messages: Any = body()["messages"]
        with proxy.openai(max_retries=0) as sdk, pytest.raises(openai.APIError):
            for _ in sdk.chat.completions.create(model="m", messages=messages, stream=True):
                pass

    @STREAMING
    @pytest.mark.parametrize("rule", ["pass", "flag", "block"])
    def test_that_answers_html_is_502_under_every_rule(
        self, proxies: Proxies, streaming: bool, rule: str
    ) -> None:
        proxy = proxies(unreadable=rule)
        proxy.upstream.script.append(Say(b"<html>secret</html>", headers=HTML))
        answer = proxy.post(body(streaming=streaming))
        assert_error(answer, 502, "upstream_unreadable")
        assert "secret" not in answer.text

    def test_that_calls_a_completion_plain_text_is_judged_all_the_same(self, proxy: Proxy) -> None:
        proxy.upstream.script.append(Say(completion("a blockword"), headers={"content-type": "text/plain"}))
        answer = proxy.post(body())
        assert "blockword" not in answer.text
        assert answer.headers["x-guardrail-decision"] == "block"

    def test_that_streams_without_being_asked_is_502(self, proxy: Proxy) -> None:
        proxy.upstream.script.append(stream(["take a ", "blockword"]))
        answer = proxy.post(body())
        assert_error(answer, 502, "upstream_unreadable")
        assert "blockword" not in answer.text

    @pytest.mark.parametrize(
        "broken",
        [
            b"data: {broken\n\n",
            b"data: hello\n\n",
            b"data: []\n\n",
            b"data: 5\n\n",
            b'data: {"choices": [5]}\n\n',
        ],
    )
    def test_that_sends_a_broken_event_is_cut_there(self, proxy: Proxy, broken: bytes) -> None:
        chunks = [chunk({"content": word + " "}) for word in LONG.split()]
        proxy.upstream.script.append(Say(headers=EVENTS, chunks=[*chunks, broken, *chunks, DONE]))
        assert assert_cut(proxy.post(body(streaming=True)), "upstream_unreadable") == LONG

    def test_that_begins_with_a_broken_event_is_502(self, proxy: Proxy) -> None:
        proxy.upstream.script.append(Say(headers=EVENTS, chunks=[b"data: {broken\n\n"]))
        assert_error(proxy.post(body(streaming=True)), 502, "upstream_unreadable")

    @pytest.mark.parametrize(
        "value",
        [
            {"choices": 5},
            {"choices": "blockword"},
            {"choices": ["blockword"]},
            {"choices": {"0": {"delta": {"content": "blockword"}}}},
            {"choices": [{"delta": "blockword"}]},
            {"choices": [{"delta": ["blockword"]}]},
            {"choices": [{"delta": {"content": ["blockword"]}}]},
            {"choices": [{"delta": {"content": {"text": "blockword"}}}]},
            {"choices": [{"index": "0", "delta": {"content": "blockword"}}]},
            {"choices": [{"index": [], "delta": {"content": "blockword"}}]},
            {"choices": [{"index": {}, "delta": {"content": "blockword"}}]},
            {"choices": [{"index": None, "delta": {"content": "blockword"}}]},
            {"choices": [{"index": 1e9, "delta": {"content": "blockword"}}]},
            {"choices": [{"index": -1, "delta": {"content": "blockword"}}]},
            {"choices": [{"delta": {"tool_calls": 5}}]},
            {"choices": [{"delta": {"tool_calls": ["blockword"]}}]},
            {"choices": [{"delta": {"tool_calls": {"function": {"arguments": "blockword"}}}}]},
            {
                "choices": [
                    {"delta": {"tool_calls": [{"index": [], "function": {"arguments": "blockword"}}]}}
                ]
            },
            {"choices": [{"delta": {"tool_calls": [{"function": "blockword"}]}}]},
            {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": {"a": "blockword"}}}]}}]},
            {"choices": [{"delta": {"tool_calls": [{"custom": "blockword"}]}}]},
            {"choices": [{"delta": {"function_call": "blockword"}}]},
            {"choices": [{"delta": {"function_call": {"arguments": ["blockword"]}}}]},
            {"choices": [{"delta": {"reasoning_details": 5}}]},
            {"choices": [{"delta": {"reasoning_details": [{"text": "blockword"}]}}]},
            {"choices": [{"delta": {"refusal": "blockword"}}]},
            {"choices": [{"delta": {"content": "fine"}, "message": {"content": "blockword"}}]},
            {"choices": [{"message": {"content": "blockword"}}]},
            {"choices": [{"message": {"content": "redactword blockword"}}]},
            {"choices": [{"delta": {"x_unknown": "blockword"}}]},
            {"choices": [{"delta": {"content": "a redactword"}, "logprobs": 5}]},
            {"choices": [{"message": {"content": "a redactword"}}]},
        ],
        ids=lambda value: json.dumps(value)[12:60],
    )
    @STREAMING
    def test_odd_shapes_neither_crash_nor_smuggle(
        self, proxies: Proxies, streaming: bool, value: dict[str, Any]
    ) -> None:
        """Each is judged, or refused as unreadable, or (here) blocked because a part is not readable."""
        proxy = proxies(unreadable="block")
        if streaming:
            end = chunk({}, finish_reason="stop")
            proxy.upstream.script.append(Say(headers=EVENTS, chunks=[sse(value), end, DONE]))
        else:
            told = json.loads(json.dumps(value).replace('"delta"', '"message"'))
            proxy.upstream.script.append(Say(json.dumps(told).encode()))
        answer = proxy.post(body(streaming=streaming))
        assert answer.status_code in (200, 502)
        assert "blockword" not in answer.text
        assert "redactword" not in answer.text
        if answer.status_code == 200:
            proxy.recorded(answer.headers["x-guardrail-id"], "input", "output")

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"null",
            b"[]",
            b'"blockword"',
            b'{"error": "blockword"}',
            b'{"choices": null, "output": "blockword"}',
            b'{"choices": [null]}',
            b'{"choices": [{"message": null}], "x": "blockword"}',
            completion("a blockword")[:-9],
            b'{"choices": [{"message": {"content": "\xff"}}]}',
            b'{"choices": [{"message": {"content": "blockword", "content": "fine"}}]}',
            b'{"choices": [{"message": {"content": "blockword"}}], "choices": []}',
        ],
    )
    def test_json_that_is_no_completion_is_502(self, proxy: Proxy, raw: bytes) -> None:
        proxy.upstream.script.append(Say(raw))
        answer = proxy.post(body())
        assert_error(answer, 502, "upstream_unreadable")
        assert "blockword" not in answer.text

    @STREAMING
    def test_that_never_answers_is_cancelled_when_the_client_gives_up(
        self, proxy: Proxy, streaming: bool
    ) -> None:
        proxy.upstream.script.append(Say(completion(CALM), delay_s=60))
        messages: Any = body()["messages"]
        with proxy.openai(max_retries=0, timeout=0.5) as sdk, pytest.raises(openai.APITimeoutError):
            sdk.chat.completions.create(model="m", messages=messages, stream=streaming)
        until(lambda: proxy.upstream.seen[-1].cancelled, "the upstream is cancelled")


QUICK = {"classifier": {"timeout_s": 0.4}}


class TestJudge:
    def test_that_hangs_fails_closed_after_its_time(self, proxies: Proxies) -> None:
        proxy = proxies(**QUICK)
        answer = proxy.post(body("a hangword"))
        assert_error(answer, 503, "guardrail_unavailable")
        assert answer.headers["x-guardrail-degraded"] == "house=timeout"
        until(lambda: proxy.judge.seen[-1].cancelled, "the judge's call is cancelled")
        assert proxy.upstream.seen == []

    @STREAMING
    def test_that_hangs_fails_open_where_that_was_asked_for(
        self, proxies: Proxies, streaming: bool
    ) -> None:
        proxy = proxies(**QUICK, on_error={"input": {"default": "closed", "timeout": "open"}})
        answer = proxy.post(body("a hangword", streaming=streaming))
        assert answer.status_code == 200
        assert answer.headers["x-guardrail-degraded"] == "house=timeout"
        assert len(proxy.upstream.seen) == 1

    def test_that_hangs_in_mid_stream_cuts_it(self, proxies: Proxies) -> None:
        proxy = proxies(**QUICK)
        proxy.upstream.text = LONG + "and a hangword"
        proxy.upstream.pause_s = 0.003
        text = assert_cut(proxy.post(body(streaming=True)), "guardrail_unavailable")
        assert text
        assert LONG.startswith(text)

    def test_that_drips_its_answer_runs_out_of_time(self, proxies: Proxies) -> None:
        proxy = proxies(**QUICK)
        whole = verdict(0, None)
        drip = Say(chunks=[whole[i : i + 1] for i in range(len(whole))], pause_s=0.02)
        proxy.judge.script.append(drip)
        answer = proxy.post(body())
        assert_error(answer, 503, "guardrail_unavailable")

    @pytest.mark.parametrize(
        ("say", "error"),
        [
            (Say(drop=True), "unavailable"),
            (Say(b"oops", status=500), "unavailable"),
            (Say(b"<html>", headers=HTML), "malformed"),
            (Say(b""), "malformed"),
            (Say(b"null"), "malformed"),
            (Say(b'{"choices": []}'), "malformed"),
            (Say(completion(None)), "malformed"),
            (Say(completion("")), "malformed"),
            (Say(completion('{"violation": 0}', finish_reason="length")), "truncated"),
            (Say(verdict(1, "NOSUCH")), "malformed"),
            (Say(b'{"error": {"code": 502}}'), "unavailable"),
            (Say(b'{"error": {"message": "maximum context length"}}', status=400), "too_long"),
            (Say(b'{"error": {}}', status=429, headers={**JSON, "retry-after": "99"}), "rate_limited"),
            (Say(b"", status=302, headers={"location": "http://127.0.0.1:1/"}), "auth"),
        ],
        ids=lambda value: value if isinstance(value, str) else repr(value.body[:30]),
    )
    def test_whatever_it_does_instead_is_never_a_pass(self, proxy: Proxy, say: Say, error: str) -> None:
        proxy.judge.script.extend([say] * 6)
        answer = proxy.post(body())
        assert answer.headers["x-guardrail-decision"] == "block"
        assert answer.headers["x-guardrail-degraded"] == f"house={error}"
        assert proxy.upstream.seen == []
        (record,) = proxy.recorded(answer.headers["x-guardrail-id"], "input")
        assert [f["error"] for f in record["findings"]] == [error]

    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_wrong_credentials_are_closed_even_where_outages_are_open(
        self, proxies: Proxies, status: int
    ) -> None:
        proxy = proxies(on_error={"input": "open", "output": "open"})
        proxy.judge.script.append(Say(b'{"error": {"message": "no"}}', status=status))
        answer = proxy.post(body())
        assert_error(answer, 503, "guardrail_unavailable")
        assert answer.headers["x-guardrail-degraded"] == "house=auth"
        assert proxy.upstream.seen == []

    def test_one_hiccup_is_not_seen(self, proxy: Proxy) -> None:
        proxy.judge.script.extend([Say(drop=True), Say(b"", status=503)])
        answer = proxy.post(body())
        assert answer.status_code == 200
        assert "x-guardrail-degraded" not in answer.headers

    def test_that_dies_and_comes_back(self, tmp_path: Path, upstream: FakeUpstream) -> None:
        upstream.seen.clear()
        with WordJudge() as judge:
            port = judge.port
            proxy = start_proxy(tmp_path / "proxy", judge, upstream, {})
            try:
                assert proxy.post(body()).status_code == 200
                assert proxy.http.get("/readyz").status_code == 200
            except BaseException:
                proxy.stop()
                raise
        try:
            assert_error(proxy.post(body()), 503, "guardrail_unavailable")
            assert proxy.http.get("/readyz").status_code == 503
            assert proxy.http.get("/healthz").status_code == 200
            back = WordJudge()
            back.port = port
            with back:
                assert proxy.post(body()).status_code == 200
                assert proxy.http.get("/readyz").status_code == 200
        finally:
            proxy.stop()


def request(sent: dict[str, Any], path: str = CHAT, connection: str = "keep-alive") -> bytes:
    raw = json.dumps(sent).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: {connection}\r\n"
    return f"{head}content-length: {len(raw)}\r\n\r\n".encode() + raw


@contextmanager
def calling(proxy: Proxy, sent: dict[str, Any], *, path: str = CHAT) -> Iterator[socket.socket]:
    """A raw connection that has sent its request; hangs up at the end of the block."""
    with socket.create_connection(("127.0.0.1", proxy.port), 15) as client:
        client.sendall(request(sent, path))
        yield client


def read_until(client: socket.socket, wanted: bytes) -> bytes:
    got = b""
    while wanted not in got:
        part = client.recv(4096)
        assert part, got
        got += part
    return got


def id_of(got: bytes) -> str:
    return got.partition(b"x-guardrail-id: ")[2].partition(b"\r\n")[0].decode()


def cancelled_records(proxy: Proxy, stage: str) -> list[dict[str, Any]]:
    return [r for r in proxy.records() if r["stage"] == stage and r["action"] == "cancelled"]


class TestClientThatHangsUp:
    """Whatever was made for it is cancelled, and what was decided is recorded."""

    def test_in_mid_stream(self, proxy: Proxy) -> None:
        say = stream([word + " " for word in LONG.split()] + ["hangword "] + ["more "] * 2000)
        say.pause_s = 0.002
        proxy.upstream.script.append(say)
        with calling(proxy, body(streaming=True)) as client:
            decision_id = id_of(read_until(client, b'"One '))
            until(lambda: any("hangword" in text for text in proxy.judge.judged), "the judge hangs")
        until(lambda: proxy.upstream.seen[-1].cancelled, "the upstream is cancelled")
        until(lambda: proxy.judge.seen[-1].cancelled, "the outstanding check is cancelled")
        _, after = proxy.recorded(decision_id, "input", "output")
        assert after["action"] == "cancelled"

    def test_while_its_prompt_is_judged(self, proxy: Proxy) -> None:
        known = len(cancelled_records(proxy, "input"))
        with calling(proxy, body("a hangword")):
            until(lambda: proxy.judge.seen, "the judge is asked")
        until(lambda: proxy.judge.seen[-1].cancelled, "the check is cancelled")
        until(lambda: len(cancelled_records(proxy, "input")) == known + 1, "it is recorded")
        assert proxy.upstream.seen == []

    @STREAMING
    def test_while_the_model_thinks(self, proxy: Proxy, streaming: bool) -> None:
        proxy.upstream.script.append(Say(completion(CALM), delay_s=60))
        with calling(proxy, body(streaming=streaming)):
            until(lambda: proxy.upstream.seen, "the upstream is asked")
        until(lambda: proxy.upstream.seen[-1].cancelled, "the upstream is cancelled")

    @STREAMING
    def test_while_its_answer_is_judged(self, proxy: Proxy, streaming: bool) -> None:
        known = len(cancelled_records(proxy, "output"))
        proxy.upstream.text = "A hangword."
        with calling(proxy, body(streaming=streaming)):
            until(lambda: any("hangword" in text for text in proxy.judge.judged), "the answer is judged")
        until(lambda: proxy.judge.seen[-1].cancelled, "the check is cancelled")
        until(lambda: len(cancelled_records(proxy, "output")) == known + 1, "it is recorded")

    def test_others_that_wait_for_the_same_verdict_still_get_it(self, proxy: Proxy) -> None:
        """Identical checks share one call; when its leader hangs up, another one leads."""
        proxy.judge.script.append(WORDS["hangword"])
        with ExitStack() as calls:
            with calling(proxy, body("the same prompt")):
                until(lambda: proxy.judge.seen, "the first is being judged")
                other = calls.enter_context(calling(proxy, body("the same prompt")))
                assert proxy.post(body()).status_code == 200  # when this is through, the other one waits
                assert [text for text in proxy.judge.judged if text.startswith("the same")] == [
                    "the same prompt"
                ]
            assert b"HTTP/1.1 200 " in read_until(other, CALM.encode())

    def test_on_an_allowed_path_too(self, proxies: Proxies) -> None:
        proxy = proxies(paths={"allow": ["/v1/rerank"]})
        say = stream(["word "] * 5000)
        say.pause_s = 0.002
        proxy.upstream.script.append(say)
        with calling(proxy, {"prompt": "x", "stream": True}, path="/v1/rerank") as client:
            read_until(client, b'"word ')
        until(lambda: proxy.upstream.seen[-1].cancelled, "the upstream is cancelled")

    def test_fifty_at_once(self, proxy: Proxy) -> None:
        say = stream(["word "] * 5000)
        say.pause_s = 0.002
        proxy.upstream.script.extend([say] * 50)
        with ExitStack() as calls:
            clients = [
                calls.enter_context(calling(proxy, body(f"hello {n}", streaming=True))) for n in range(50)
            ]
            for client in clients[::3]:
                read_until(client, b"HTTP/1.1 200")
        until(lambda: proxy.upstream.open_now == 0, "every upstream request is over")
        until(lambda: proxy.judge.open_now == 0, "every check is over")
        proxy.upstream.script.clear()
        assert proxy.post(body()).status_code == 200


class TestSlowClients:
    def test_a_client_that_reads_slowly_gets_every_byte(self, proxy: Proxy) -> None:
        say = stream([f"number {n}, " for n in range(3000)])
        whole = b"".join(say.chunks or [])
        proxy.upstream.script.append(say)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(15)
            client.connect(("127.0.0.1", proxy.port))
            client.sendall(request(body(streaming=True), connection="close"))
            got = b""
            while part := client.recv(2048):
                got += part
                if len(got) < 100_000:
                    time.sleep(0.001)
        assert dechunked(got.partition(b"\r\n\r\n")[2]) == whole

    def test_a_client_that_stops_reading_holds_up_nobody_else(self, proxy: Proxy) -> None:
        proxy.upstream.script.append(stream(["many words " * 50] * 3000))
        with calling(proxy, body(streaming=True)) as client:
            read_until(client, b"many words")
            assert proxy.post(body()).status_code == 200
        until(lambda: proxy.upstream.open_now == 0, "the upstream request is over")


def dechunked(raw: bytes) -> bytes:
    out = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size, 16)
        out += raw[:length]
        raw = raw[length + 2 :]
        if not length:
            break
    return out


def test_many_streams_at_once_do_not_mix(proxy: Proxy) -> None:
    """Forty clients, each with its own answer; some are redacted, some halted, none sees another's."""
    texts = {
        "plain": "nothing to see in number {n}. " * 12,
        "red": "look at number {n}, redactword, number {n}. " * 8,
        "blk": "begin with number {n}. " * 12 + "blockword number {n}",
    }

    def answer(seen: Any) -> Say:
        kind, n = seen.json["messages"][0]["content"].split(" ")
        return stream([word + " " for word in texts[kind].format(n=n).split()], pause_s=0.003)

    usual, proxy.upstream.default = proxy.upstream.default, answer
    try:
        with ExitStack() as calls:
            clients = []
            for n in range(40):
                kind = ("plain", "red", "blk")[n % 3]
                asked = body(f"{kind} n{n}n", streaming=True)
                clients.append((kind, f"n{n}n", calls.enter_context(calling(proxy, asked))))
            answers = [(kind, n, read_until(client, b"0\r\n\r\n")) for kind, n, client in clients]
    finally:
        proxy.upstream.default = usual
    for kind, n, got in answers:
        raw = dechunked(got.partition(b"\r\n\r\n")[2]).decode()
        events = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]
        text = "".join(e["choices"][0]["delta"].get("content") or "" for e in events)
        reason = events[-1]["choices"][0]["finish_reason"]
        whole = texts[kind].format(n=n)
        assert raw.endswith("data: [DONE]\n\n")
        if kind == "blk":
            assert reason == "content_filter"
            assert whole.startswith(text)
            assert "blockword" not in text
        else:
            assert reason == "stop"
            assert text.strip() == whole.strip().replace("redactword", MARK)


def test_a_server_that_is_told_to_end_records_the_stream_it_cuts(
    tmp_path: Path, judge: WordJudge, upstream: FakeUpstream
) -> None:
    say = stream([word + " " for word in LONG.split()] + ["more "] * 100_000)
    say.pause_s = 0.01
    upstream.script.append(say)
    proxy = start_proxy(tmp_path / "proxy", judge, upstream, {})
    try:
        with calling(proxy, body(streaming=True)) as client:
            decision_id = id_of(read_until(client, b'"One '))
            proxy.process.popen.send_signal(signal.SIGTERM)
            proxy.process.popen.wait(30)
    finally:
        proxy.process.popen.kill()
        proxy.process.popen.wait(10)
    assert "Application shutdown complete." in proxy.process.log
    before, after = proxy.records(decision_id)
    assert (before["action"], after["action"]) == ("pass", "cancelled")
    until(lambda: upstream.seen[-1].cancelled, "the upstream is cancelled")
