"""The twin of guardrail/frontends/asgi.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.frontends.asgi import Message, full_path, header, kept_headers, other_charset, send_reply
from guardrail.wire.replies import Reply

NAMES = st.sampled_from(
    [
        b"content-type",
        b"Content-Length",
        b"X-Guardrail-Id",
        b"x-guardrail-decision",
        b"x-other",
        b"set-cookie",
    ]
)
HEADERS = st.lists(st.tuples(NAMES, st.binary(max_size=8)), max_size=8)


def test_a_header_is_found_whatever_its_case_and_the_first_one_counts():
    headers = [(b"X-One", b"1"), (b"Content-Type", b"a/b"), (b"content-type", b"c/d")]
    assert header(headers, b"content-type") == b"a/b"
    assert header(headers, b"x-two") == b""
    assert header([], b"x-one") == b""


@given(HEADERS, st.booleans())
def test_kept_headers_keep_order_and_values_and_never_ours(headers: list[tuple[bytes, bytes]], same: bool):
    kept = kept_headers(headers, same_length=same)
    gone = {b"x-guardrail-id", b"x-guardrail-decision"} | (set() if same else {b"content-length"})
    assert kept == [(key, value) for key, value in headers if key.lower() not in gone]


@pytest.mark.parametrize(
    ("path", "root_path", "whole"),
    [
        ("/v1/chat/completions", "", "/v1/chat/completions"),
        ("/api/v1/chat/completions", "/api", "/api/v1/chat/completions"),
        ("/v1/chat/completions", "/v1/chat", "/v1/chat/completions"),
        ("/completions", "/v1/chat", "/v1/chat/completions"),  # servers older than ASGI 2.3's wording
        ("/apiary/x", "/api", "/api/apiary/x"),
        ("/api", "/api", "/api"),
    ],
)
def test_the_full_path_holds_the_mount_point_once(path: str, root_path: str, whole: str):
    assert full_path({"path": path, "root_path": root_path}) == whole


def test_a_scope_without_a_root_path_is_read():
    assert full_path({"path": "/x"}) == "/x"


@pytest.mark.anyio
async def test_a_reply_is_one_start_with_its_length_and_one_body():
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await send_reply(send, Reply(418, b"tea", ((b"a", b"1"),)), [(b"b", b"2")])
    assert sent == [
        {
            "type": "http.response.start",
            "status": 418,
            "headers": [(b"a", b"1"), (b"content-length", b"3"), (b"b", b"2")],
        },
        {"type": "http.response.body", "body": b"tea"},
    ]


@pytest.mark.parametrize(
    ("kinds", "other"),
    [
        ([], False),
        ([b"application/json"], False),
        ([b"application/json; charset=utf-8"], False),
        ([b'application/json; Charset = "UTF8" ; x=y'], False),
        ([b"text/plain;charset=us-ascii"], False),
        ([b"application/json; charset=utf-7"], True),
        ([b"application/json; charset=utf-16"], True),
        ([b"application/json; charset=utf-8-sig"], True),
        ([b"application/json; charset=iso-8859-1"], True),
        ([b"application/json; charset=utf-8; charset=utf-7"], True),
        ([b"application/json; charset*=utf-8''utf-7"], True),
        ([b'application/json; charset="utf\\-7"'], True),
        ([b"application/json", b"application/json; charset=utf-7"], True),
    ],
)
def test_a_charset_other_than_utf8_is_found(kinds: list[bytes], other: bool):
    headers = [(b"Content-Type", kind) for kind in kinds]
    assert other_charset([(b"accept", b"charset=utf-7"), *headers]) is other
