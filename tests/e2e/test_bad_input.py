"""Requests that are wrong, hostile or not for us: a clear answer, and nothing unjudged gets through.

That the server's log holds no traceback is asserted when the module ends (``Process.stop``).
"""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import CALM, CHAT, MARK, REFUSAL, Proxies, Proxy
from tests.fakes import Say, completion

HELLO = {"role": "user", "content": "hello"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def assert_openai_error(answer: httpx.Response, status: int, code: str, param: str | None = None) -> str:
    """The answer is an error in OpenAI's form; returns its message."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == ("invalid_request_error" if status < 500 else "guardrail_error")
    assert error["message"]
    message: str = error["message"]
    return message


def assert_nothing_happened(proxy: Proxy) -> None:
    """Neither judge nor upstream were asked."""
    assert proxy.upstream.seen == []
    assert proxy.judge.seen == []


def nested(depth: int) -> bytes:
    return b'{"messages": ' + b"[" * depth + b"]" * depth + b"}"


UNREADABLE = {
    "nothing": (b"", None),
    "no JSON": (b"hello", None),
    "cut JSON": (b'{"messages": [{"role": "user", "content": "hel', None),
    "JSON and more": (b'{"messages": []} {}', None),
    "a comment": (b'{"messages": [] /* secretword */}', None),
    "NaN": (b'{"messages": [], "temperature": NaN}', None),
    "invalid UTF-8": (b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}', None),
    "overlong UTF-8": (b'{"messages": [{"role": "user", "content": "\xc0\xaf"}]}', None),
    "UTF-16": ('{"messages": []}'.encode("utf-16"), None),
    "a byte order mark": (b'\xef\xbb\xbf{"messages": []}', None),
    "a lone surrogate": (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', None),
    "a list": (b"[]", None),
    "a string": (b'"hello"', None),
    "null": (b"null", None),
    "a number": (b"1", None),
    "no messages": (b"{}", "messages"),
    "messages null": (b'{"messages": null}', "messages"),
    "messages a string": (b'{"messages": "hello"}', "messages"),
    "messages an object": (b'{"messages": {"role": "user", "content": "hello"}}', "messages"),
    "a message that is a string": (b'{"messages": ["hello"]}', "messages[0]"),
    "a message that is null": (b'{"messages": [null]}', "messages[0]"),
    "no role": (b'{"messages": [{"content": "hello"}]}', "messages[0]"),
    "role null": (b'{"messages": [{"role": null, "content": "hello"}]}', "messages[0]"),
    "role a list": (b'{"messages": [{"role": ["user"], "content": "hello"}]}', "messages[0]"),
    "content a number": (b'{"messages": [{"role": "user", "content": 5}]}', "messages[0].content"),
    "content an object": (
        b'{"messages": [{"role": "user", "content": {"text": "x"}}]}',
        "messages[0].content",
    ),
    "content true": (b'{"messages": [{"role": "user", "content": true}]}', "messages[0].content"),
    "a part that is a number": (
        b'{"messages": [{"role": "user", "content": [5]}]}',
        "messages[0].content[0]",
    ),
    "stream a string": (b'{"messages": [], "stream": "yes"}', "stream"),
    "stream a number": (b'{"messages": [], "stream": 1}', "stream"),
    "n a string": (b'{"messages": [], "n": "2"}', "n"),
    "n negative": (b'{"messages": [], "n": -1}', "n"),
    "n far too large": (b'{"messages": [], "n": 1000000}', "n"),
    "n a fraction": (b'{"messages": [], "n": 1.5}', "n"),
    "guardrails a string": (b'{"messages": [], "guardrails": "house"}', "guardrails"),
    "guardrails of numbers": (b'{"messages": [], "guardrails": [1]}', "guardrails"),
    "guardrails unknown": (b'{"messages": [], "guardrails": ["secretword"]}', "guardrails"),
    "duplicate keys": (
        b'{"messages": [{"role": "user", "content": "secretword"}], "messages": []}',
        None,
    ),
    "duplicate keys deep down": (
        b'{"messages": [{"role": "user", "content": "secretword", "content": "hello"}]}',
        None,
    ),
    "duplicate keys, one escaped": (
        b'{"messages": [{"role": "user", "content": "secretword", "c\\u006fntent": "hello"}]}',
        None,
    ),
    "nested 10,000 deep": (nested(10_000), None),
    "nested 1,000 deep": (nested(1_000), None),
    "nested 500,000 deep": (nested(500_000), None),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_400_and_goes_nowhere(proxy: Proxy, name: str) -> None:
    body, param = UNREADABLE[name]
    answer = proxy.post(body)
    message = assert_openai_error(answer, 400, "invalid_request_error", param)
    assert answer.headers["x-guardrail-id"].startswith("gr-")
    assert "secretword" not in message, "no user text in messages"
    assert_nothing_happened(proxy)


@pytest.mark.parametrize("depth", [200, 253, 254, 255, 400, 900, 960, 980, *range(988, 1030, 3), 1100])
@pytest.mark.parametrize("escape", [b"", b"\\u0041"], ids=["plain", "escaped"])
def test_no_depth_of_nesting_crashes_a_redaction(proxy: Proxy, depth: int, escape: bytes) -> None:
    """Several parsers read a body; each has its own limit of depth, and none may break on the way."""
    deep = b"[" * depth + b"]" * depth
    raw = b'{"messages": [{"role": "user", "content": "%s redactword"}], "x": %s, "y": 1}' % (escape, deep)
    answer = proxy.post(raw)
    if answer.status_code == 200:
        sent = proxy.upstream.seen[-1].body
        assert b"redactword" not in sent
        assert sent.count(b"[") - MARK.encode().count(b"[") == depth + 1
    else:
        assert_openai_error(answer, 400, "invalid_request_error")
        assert proxy.upstream.seen == []


@pytest.mark.parametrize("depth", [200, 253, 255, 900, 960, 980, *range(988, 1030, 3), 1100])
@pytest.mark.parametrize("word", ["redactword", "fine"])
def test_no_depth_of_an_answer_crashes_a_redaction(proxy: Proxy, depth: int, word: str) -> None:
    deep = b"[" * depth + b"]" * depth
    raw = b'{"choices": [{"index": 0, "message": {"content": "a %s"}, "x": %s}]}' % (word.encode(), deep)
    proxy.upstream.script.append(Say(raw))
    answer = proxy.post({"messages": [HELLO]})
    assert "redactword" not in answer.text
    if answer.status_code != 200:
        assert_openai_error(answer, 502, "upstream_unreadable")


class TestBodySize:
    LIMIT = 20_000

    @pytest.fixture
    def small(self, proxies: Proxies) -> Proxy:
        return proxies(limits={"max_body_bytes": self.LIMIT})

    def body(self, size: int) -> bytes:
        empty = json.dumps({"messages": [HELLO], "user": ""}).encode()
        return json.dumps({"messages": [HELLO], "user": "x" * (size - len(empty))}).encode()

    def test_a_body_at_the_limit_passes(self, small: Proxy) -> None:
        assert len(self.body(self.LIMIT)) == self.LIMIT
        assert small.post(self.body(self.LIMIT)).status_code == 200

    def test_a_body_over_the_limit_is_413(self, small: Proxy) -> None:
        answer = small.post(self.body(self.LIMIT + 1))
        message = assert_openai_error(answer, 413, "invalid_request_error")
        assert str(self.LIMIT) in message
        assert_nothing_happened(small)

    def test_a_body_of_unknown_length_over_the_limit_is_413(self, small: Proxy) -> None:
        def pieces() -> Iterator[bytes]:
            for _ in range(100):
                yield b"x" * 1000

        answer = small.http.post(CHAT, content=pieces())
        assert answer.request.headers["transfer-encoding"] == "chunked"
        assert_openai_error(answer, 413, "invalid_request_error")
        assert_nothing_happened(small)

    def test_a_body_in_pieces_below_the_limit_is_served(self, small: Proxy) -> None:
        raw = self.body(5000)
        answer = small.http.post(CHAT, content=(raw[i : i + 100] for i in range(0, len(raw), 100)))
        assert answer.status_code == 200
        assert small.upstream.seen[-1].body == raw

    def test_a_length_that_lies_is_refused_before_the_body_comes(self, small: Proxy) -> None:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", small.port), 10) as client:
            client.sendall(head)
            assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


class TestEncodings:
    def test_a_compressed_body_is_415(self, proxy: Proxy) -> None:
        raw = gzip.compress(json.dumps({"messages": [HELLO]}).encode())
        answer = proxy.post(raw, headers={"content-encoding": "gzip"})
        message = assert_openai_error(answer, 415, "invalid_request_error")
        assert "content-encoding" in message
        assert_nothing_happened(proxy)

    @pytest.mark.parametrize("encoding", ["GZIP", "deflate", "br", "zstd", "gzip, identity", "x-unknown"])
    def test_any_other_encoding_too(self, proxy: Proxy, encoding: str) -> None:
        answer = proxy.post({"messages": [HELLO]}, headers={"content-encoding": encoding})
        assert_openai_error(answer, 415, "invalid_request_error")
        assert_nothing_happened(proxy)

    @pytest.mark.parametrize("charset", ["utf-7", "utf-16", "iso-8859-1"])
    def test_another_charset_is_415(self, proxy: Proxy, charset: str) -> None:
        """What is harmless in UTF-8 may be a prompt in another charset, for an upstream that heeds it."""
        raw = json.dumps(
            {"messages": [{"role": "user", "content": "a blockword".encode("utf-7").decode()}]}
        )
        headers = {"content-type": f"application/json; charset={charset}"}
        assert "UTF-8" in assert_openai_error(
            proxy.post(raw.encode(), headers=headers), 415, "invalid_request_error"
        )
        assert_nothing_happened(proxy)

    def test_gzip_without_saying_so_is_no_json(self, proxy: Proxy) -> None:
        raw = gzip.compress(json.dumps({"messages": [HELLO]}).encode())
        assert_openai_error(proxy.post(raw), 400, "invalid_request_error")
        assert_nothing_happened(proxy)

    def test_identity_is_served(self, proxy: Proxy) -> None:
        answer = proxy.post({"messages": [HELLO]}, headers={"content-encoding": "identity"})
        assert answer.status_code == 200

    def test_the_upstream_is_asked_not_to_compress(self, proxy: Proxy) -> None:
        proxy.post({"messages": [HELLO]}, headers={"accept-encoding": "gzip, br"})
        assert proxy.upstream.seen[-1].headers["Accept-Encoding"] == "identity"

    def test_an_answer_compressed_all_the_same_is_502(self, proxy: Proxy) -> None:
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        proxy.upstream.script.append(Say(gzip.compress(completion("a blockword")), headers=headers))
        answer = proxy.post({"messages": [HELLO]}, headers={"accept-encoding": "identity"})
        assert_openai_error(answer, 502, "upstream_unreadable")


class TestUnreadableParts:
    CONTENT = ({"type": "text", "text": "what is this?"}, IMAGE)
    PATH = "$.messages[0].content[1]"

    def ask(self, proxy: Proxy, **more: Any) -> httpx.Response:
        return proxy.post({"messages": [{"role": "user", "content": self.CONTENT}], **more})

    def test_block_refuses_and_names_the_part(self, proxies: Proxies) -> None:
        proxy = proxies(unreadable="block")
        answer = self.ask(proxy)
        assert answer.status_code == 200
        assert answer.json()["choices"][0]["finish_reason"] == "content_filter"
        assert answer.json()["choices"][0]["message"]["content"] == REFUSAL
        assert answer.headers["x-guardrail-decision"] == "block"
        assert answer.headers["x-guardrail-unjudged"] == self.PATH
        assert proxy.upstream.seen == []
        (record,) = proxy.recorded(answer.headers["x-guardrail-id"], "input")
        assert (record["action"], record["unjudged"]) == ("block", [self.PATH])

    @pytest.mark.parametrize("rule", ["flag", "pass"])
    def test_flag_and_pass_let_through_and_name_the_part(self, proxies: Proxies, rule: str) -> None:
        proxy = proxies(unreadable=rule)
        answer = self.ask(proxy)
        assert answer.status_code == 200
        assert answer.json()["choices"][0]["message"]["content"] == CALM
        assert answer.headers["x-guardrail-decision"] == rule
        assert answer.headers["x-guardrail-unjudged"] == self.PATH
        assert proxy.upstream.seen[-1].json["messages"][0]["content"] == [*self.CONTENT]
        before, _ = proxy.recorded(answer.headers["x-guardrail-id"], "input", "output")
        assert (before["action"], before["unjudged"]) == (rule, [self.PATH])

    def test_strict_blocks_whatever_the_rule_says(self, proxies: Proxies) -> None:
        proxy = proxies(unreadable="pass", strict=True)
        assert self.ask(proxy).headers["x-guardrail-decision"] == "block"
        assert proxy.upstream.seen == []

    def test_the_text_beside_an_image_is_judged(self, proxies: Proxies) -> None:
        proxy = proxies(unreadable="pass")
        content = [IMAGE, {"type": "text", "text": "a blockword"}]
        answer = proxy.post({"messages": [{"role": "user", "content": content}]})
        assert answer.headers["x-guardrail-decision"] == "block"
        assert proxy.upstream.seen == []

    def test_text_outside_the_messages_is_never_silent(self, proxy: Proxy) -> None:
        tools = [{"type": "function", "function": {"name": "f", "description": "a blockword"}}]
        answer = proxy.post({"messages": [HELLO], "tools": tools, "x_prompt": "a blockword"})
        judged = " ".join(proxy.judge.judged)
        named = answer.headers.get("x-guardrail-unjudged", "")
        assert "blockword" in judged or {"$.tools", "$.x_prompt"} <= set(named.split(", "))

    def test_an_image_in_the_answer_follows_the_rule(self, proxies: Proxies) -> None:
        raw = json.dumps({"choices": [{"message": {"content": "Here.", "images": [IMAGE]}}]}).encode()
        for rule, word in (("block", "block"), ("flag", "flag")):
            proxy = proxies(unreadable=rule)
            proxy.upstream.script.append(Say(raw))
            answer = proxy.post({"messages": [HELLO]})
            assert answer.headers["x-guardrail-decision"] == word
            assert answer.headers["x-guardrail-unjudged"] == "$.choices[0].message.images"
            assert ("base64" in answer.text) is (rule == "flag")


class TestPaths:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/v1/images/generations"),
            ("POST", "/v1/audio/speech"),
            ("POST", "/v1/files"),
            ("POST", "/v1/models"),
            ("DELETE", "/v1/models/fake-model"),
            ("GET", CHAT),
            ("PUT", CHAT),
            ("POST", "/"),
            ("POST", "/v1"),
            ("POST", "/v1/chat/completion"),
            ("POST", "/v1/CHAT/completions"),
            ("POST", "/v1/chat/completions;x=1"),
            ("POST", "/v1/chat/completions/stream"),
            ("GET", "/v1/modelsx"),
            ("GET", "/metrics/secret"),
        ],
    )
    def test_an_uncovered_path_is_403(self, proxy: Proxy, method: str, path: str) -> None:
        answer = proxy.http.request(method, path, json={"messages": [HELLO], "prompt": "x", "input": "x"})
        assert_openai_error(answer, 403, "unguarded_path")
        assert_nothing_happened(proxy)

    @pytest.mark.parametrize(
        "target",
        [
            "/v1//chat/completions",
            "/v1/models/../chat/completions",
            "/v1/models/%2e%2e/chat/completions",
            "/v1/models/..%2fchat%2fcompletions",
            "/v1/models%5c..%5cchat/completions",
            "/v1/./models",
            "/v1/models/.",
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_path_that_reads_two_ways_is_refused(self, proxy: Proxy, method: str, target: str) -> None:
        raw = exchange(
            proxy, f"{method} {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode()
        )
        assert raw.split(b" ")[1] in (b"400", b"403")
        assert b'"error"' in raw
        assert_nothing_happened(proxy)

    @pytest.mark.parametrize(
        "path", ["/v1/chat/completions/", "/chat/completions", "/v1/chat/completion%73"]
    )
    def test_another_spelling_of_the_route_is_guarded_too(self, proxy: Proxy, path: str) -> None:
        answer = proxy.http.post(path, json={"messages": [{"role": "user", "content": "a blockword"}]})
        assert answer.headers["x-guardrail-decision"] == "block"
        assert proxy.upstream.seen == []

    def test_the_model_list_passes(self, proxy: Proxy) -> None:
        answer = proxy.http.get("/v1/models?limit=2")
        assert answer.json()["data"][0]["id"] == "fake-model"
        assert proxy.upstream.seen[-1].path == "/v1/models?limit=2"
        assert proxy.judge.seen == []

    def test_an_allowed_path_is_forwarded_as_it_is(self, proxies: Proxies) -> None:
        proxy = proxies(paths={"allow": ["/v1/files", "/v1/audio/*"]})
        raw = b"\x00\xff not json"
        for path in ("/v1/files", "/v1/audio/speech"):
            proxy.upstream.script.append(Say(b"\x01\x02", headers={"content-type": "audio/mpeg"}))
            answer = proxy.http.post(path, content=raw)
            assert (answer.status_code, answer.content) == (200, b"\x01\x02")
            assert proxy.upstream.seen[-1].body == raw
        assert_openai_error(proxy.http.post("/v1/filesystem"), 403, "unguarded_path")

    def test_health_and_readiness(self, proxy: Proxy) -> None:
        assert proxy.http.get("/healthz").text == "ok"
        assert proxy.http.get("/readyz").text == "ok"


def exchange(proxy: Proxy, raw: bytes, *, pause_s: float = 0.0, piece: int = 0) -> bytes:
    """Send bytes as they are over a socket and read the answer until it is whole or the end comes."""
    with socket.create_connection(("127.0.0.1", proxy.port), 15) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(raw), piece or len(raw)):
            client.sendall(raw[at : at + (piece or len(raw))])
            if pause_s:
                time.sleep(pause_s)
        got = b""
        while part := client.recv(65536):
            got += part
            head, found, rest = got.partition(b"\r\n\r\n")
            length = [
                v for k, _, v in (h.partition(b": ") for h in head.split(b"\r\n")) if k == b"content-length"
            ]
            if found and length and len(rest) >= int(length[0]):
                break
        return got


class TestBelowHttp:
    @pytest.mark.parametrize(
        "raw",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS hello
            b"hello\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n",
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n"
            b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n"
            b"content-length: 3\r\n\r\n{}",
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n{}",
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-bad\x00: y\r\ncontent-length: 2\r\n\r\n{}",
        ],
    )
    def test_what_is_no_http_is_400(self, proxy: Proxy, raw: bytes) -> None:
        assert exchange(proxy, raw).startswith(b"HTTP/1.1 400 ")
        assert_nothing_happened(proxy)

    @pytest.mark.parametrize(
        "target",
        [
            b"/v1/models?x=\xff",
            b"/v1/models/\xff\xfe",
            b"/v1/models/%ff%fe",
            b"/v1/models?q=%zz",
            b"/v1/models/%",
            b"/v1/models?a=b?c=d&e=[1]|{}",
            b"http://other.example.com/v1/models",
            b"*",
            b"/v1/models#fragment",
            b"/v1/models?x=%0d%0aX-Injected:%201",
        ],
    )
    def test_odd_targets_crash_nothing(self, proxy: Proxy, target: bytes) -> None:
        raw = exchange(proxy, b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert int(raw.split(b" ")[1]) in (200, 400, 403, 404)
        assert b"X-Injected" not in b"".join(str(s.headers).encode() for s in proxy.upstream.seen)

    @pytest.mark.parametrize("query", [b"?x=\xff", b"?api-version=1", b"?%zz"])
    def test_odd_queries_on_the_guarded_route_crash_nothing(self, proxy: Proxy, query: bytes) -> None:
        body = b'{"messages": [{"role": "user", "content": "hello"}]}'
        head = b"POST /v1/chat/completions%s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        raw = exchange(proxy, head % (query, len(body)) + body)
        assert int(raw.split(b" ")[1]) in (200, 400)

    def test_header_bytes_that_are_no_ascii_are_forwarded(self, proxy: Proxy) -> None:
        body = b'{"messages": [{"role": "user", "content": "hello"}]}'
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-title: caf\xe9\r\n"
            b"content-length: %d\r\n\r\n" % len(body)
        )
        assert exchange(proxy, head + body).startswith(b"HTTP/1.1 200 ")

    def test_expect_continue_is_answered_here_and_not_passed_on(self, proxy: Proxy) -> None:
        """An upstream that never says 100 must not stall the request."""
        body = b'{"messages": [{"role": "user", "content": "hello"}]}'
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        with socket.create_connection(("127.0.0.1", proxy.port), 15) as client:
            client.sendall(head)
            assert client.recv(4096).startswith(b"HTTP/1.1 100 ")
            client.sendall(body)
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert "Expect" not in proxy.upstream.seen[-1].headers

    def test_hop_by_hop_headers_are_not_passed_on(self, proxy: Proxy) -> None:
        hop = {
            "connection": "keep-alive, x-secret-hop",
            "x-secret-hop": "1",
            "te": "trailers",
            "x-kept": "1",
        }
        assert proxy.post({"messages": [HELLO]}, headers=hop).status_code == 200
        sent = {name.lower() for name in proxy.upstream.seen[-1].headers}
        assert not sent & {"x-secret-hop", "te", "keep-alive"}
        assert "x-kept" in sent

    def test_a_request_that_drips_in_byte_by_byte_is_served(self, proxy: Proxy) -> None:
        body = b'{"messages": [{"role": "user", "content": "hello"}]}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        raw = exchange(proxy, head + body, piece=1, pause_s=0.002)
        assert raw.startswith(b"HTTP/1.1 200 ")
        assert CALM.encode() in raw

    def test_a_client_that_hangs_up_in_its_body_leaves_nothing_behind(self, proxy: Proxy) -> None:
        for cut in (b"", b'{"messages": [{"role": "us'):
            with socket.create_connection(("127.0.0.1", proxy.port), 15) as client:
                client.sendall(
                    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n" + cut
                )
        assert proxy.post({"messages": [HELLO]}).status_code == 200
        assert len(proxy.upstream.seen) == 1

    def test_a_client_that_never_finishes_its_body_does_not_keep_others_out(self, proxies: Proxies) -> None:
        """A slow body costs its sender a connection, not everybody else a slot."""
        proxy = proxies(limits={"max_concurrent_requests": 1})
        with socket.create_connection(("127.0.0.1", proxy.port), 15) as slow:
            slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{")
            answers = [proxy.post({"messages": [HELLO]}).status_code for _ in range(5)]
        assert answers == [200] * 5


def test_every_mark_that_exempts_text_from_the_judge_carries_the_secret_boundary(proxy: Proxy) -> None:
    """Content that writes the same words must not be exempt, so a mark holds what content cannot know."""
    proxy.upstream.text = "Many words that pass, so that a second window has text before it. " * 4
    assert proxy.post({"messages": [HELLO], "stream": True}).status_code == 200
    message = proxy.judge.seen[-1].json["messages"][-1]["content"]
    boundary = message.partition("=== ")[2].partition(" ")[0]
    exempting = [line for line in message.splitlines() if "not to be classified" in line]
    assert len(exempting) > 1, "the prompt, and what has left already"
    assert [line for line in exempting if boundary not in line] == []
