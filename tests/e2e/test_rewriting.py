"""What the upstream gets is what the client wrote, byte for byte, but for the texts that were redacted.

Servers cache a prompt by its bytes or by its tokens; a body that is written anew would miss. The bodies
are those that real clients write, and hostile ones.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import httpx
import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from tests.e2e.conftest import CALLER_KEY, CHAT, MARK, Proxy, ruling
from tests.fakes import FakeUpstream, Say

MAIL = "ann@mail.example"
CALM = "ann or whoever.."
_STRING = re.compile(rb'("(?:[^"\\]|\\.)*")(\s*:)?')


@pytest.fixture(autouse=True)
def _mail(proxy: Proxy) -> None:
    proxy.judge.words[MAIL] = Say(ruling(1, "RED", excerpts=[MAIL]))


def redacted(raw: bytes, *, keep: int = 0) -> bytes:
    """The bytes with every string value that holds the address written anew, but for the first ``keep``."""
    seen = 0

    def rewritten(literal: re.Match[bytes]) -> bytes:
        nonlocal seen
        text = json.loads(literal[1])
        if literal[2] or MAIL not in text:
            return literal[0]
        seen += 1
        new = text.replace(MAIL, MARK)
        return literal[0] if seen <= keep else json.dumps(new, ensure_ascii=False).encode()

    return _STRING.sub(rewritten, raw)


def call(mail: str) -> dict[str, Any]:
    function = {
        "name": "send",
        "arguments": json.dumps({"to": [mail], "text": 'say "hé" \U0001f600', "n": 1.5}),
    }
    return {"id": "call_1", "type": "function", "function": function}


def messages(mail: str) -> list[Any]:
    """A chat with all that a client may write, the address in the system's words (which are kept) first."""
    return [
        {"role": "system", "content": f"You are é {mail}."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "A long document. " * 5, "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": f"Write\tto <{mail}> \U0001f600,\n“{mail}”."},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [call(mail)]},
        {"role": "tool", "tool_call_id": "call_1", "content": json.dumps({"sent to": mail})},
        {"role": "user", "content": "Thanks / merci."},
    ]


TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "send", "strict": True, "parameters": {"type": "object", "properties": {}}},
    }
]
MORE: dict[str, Any] = {"cache_control": {"type": "ephemeral"}, "x_mirostat": 1e-7, "guided": {"": [None]}}


def options(mail: str) -> dict[str, Any]:
    return {"model": "m", "messages": messages(mail), "tools": TOOLS, "temperature": 0.7, "seed": 2**60}


def by_openai(url: str, mail: str) -> None:
    with openai.OpenAI(base_url=url, api_key=CALLER_KEY, max_retries=0) as client:
        client.chat.completions.create(**options(mail), extra_body=MORE)


def by_openai_streaming(url: str, mail: str) -> None:
    with openai.OpenAI(base_url=url, api_key=CALLER_KEY, max_retries=0) as client:
        more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
        list(client.chat.completions.create(**options(mail), **more))


async def by_openai_asynchronously(url: str, mail: str) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key=CALLER_KEY, max_retries=0) as client:
        await client.chat.completions.create(**options(mail), extra_body=MORE)


@tool
def send(to: list[str]) -> str:
    """Send a letter."""
    return " ".join(to)


def talk(mail: str) -> list[Any]:
    return [
        SystemMessage(f"You are é {mail}."),
        HumanMessage(
            [{"type": "text", "text": f"To {mail} \U0001f600", "cache_control": {"type": "ephemeral"}}]
        ),
        AIMessage("", tool_calls=[{"name": "send", "args": {"to": [mail, "é"]}, "id": "call_1"}]),
        ToolMessage(f"sent to {mail}", tool_call_id="call_1"),
        HumanMessage("Thanks."),
    ]


def by_langchain(url: str, mail: str) -> None:
    with httpx.Client() as client:
        model = ChatOpenAI(model="m", base_url=url, api_key=CALLER_KEY, max_retries=0, http_client=client)
        model.bind_tools([send]).invoke(talk(mail))


async def by_langchain_streaming(url: str, mail: str) -> None:
    async with httpx.AsyncClient() as client:
        model = ChatOpenAI(
            model="m", base_url=url, api_key=CALLER_KEY, max_retries=0, http_async_client=client
        )
        async for _ in model.bind_tools([send]).astream(talk(mail)):
            pass


def by_httpx(url: str, mail: str) -> None:
    with httpx.Client() as client:
        client.post(f"{url}/chat/completions", json=options(mail) | MORE).raise_for_status()


def by_python_itself(url: str, mail: str) -> None:
    """Its JSON is spaced and ASCII alone."""
    request = urllib.request.Request(
        f"{url}/chat/completions",
        json.dumps(options(mail) | MORE, indent=2).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 200


async def by_aiohttp(url: str, mail: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/chat/completions", json=options(mail)) as response,
    ):
        assert response.status == 200


Client = Callable[[str, str], Awaitable[None] | None]
CLIENTS: list[Client] = [
    by_openai,
    by_openai_streaming,
    by_openai_asynchronously,
    by_langchain,
    by_langchain_streaming,
    by_httpx,
    by_python_itself,
    by_aiohttp,
]


@pytest.mark.anyio
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
class TestClients:
    async def written(self, client: Client, server: Proxy | FakeUpstream, mail: str) -> bytes:
        """The body that reaches the upstream when the client calls this server."""
        asked = client(server.url, mail)
        if asked is not None:
            await asked
        upstream = server.upstream if isinstance(server, Proxy) else server
        return upstream.seen.pop().body

    async def test_only_the_redacted_texts_differ(self, proxy: Proxy, client: Client) -> None:
        original = await self.written(client, proxy.upstream, MAIL)
        assert original.count(MAIL.encode()) >= 4
        expected = redacted(original, keep=1)
        assert expected != original
        assert expected.count(MAIL.encode()) == 1
        assert await self.written(client, proxy, MAIL) == expected

    async def test_nothing_differs_where_nothing_is_redacted(self, proxy: Proxy, client: Client) -> None:
        original = await self.written(client, proxy.upstream, CALM)
        assert await self.written(client, proxy, CALM) == original


BY_LITELLM = """\
import json, sys, litellm
for url, options in json.loads(sys.argv[1]):
    litellm.completion(api_base=url, api_key="sk-" + "caller", num_retries=0, **options)
"""


def test_only_the_redacted_texts_of_litellms_bodies_differ(proxy: Proxy) -> None:
    """In a process of its own: it is slow to load and changes what it finds."""
    if importlib.util.find_spec("litellm") is None:
        pytest.skip("the extra guardrail[litellm] is not installed")
    asked = [
        (server.url, options(mail) | {"model": "openai/m"})
        for mail in (MAIL, CALM)
        for server in (proxy.upstream, proxy)
    ]
    command = [sys.executable, "-c", BY_LITELLM, json.dumps(asked)]
    env = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(command, env=env, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    original, through, calm, calm_through = (seen.body for seen in proxy.upstream.seen)
    assert through == redacted(original, keep=1) != original
    assert calm_through == calm


def post(proxy: Proxy, raw: bytes) -> httpx.Response:
    return proxy.http.post(CHAT, content=raw, headers={"content-type": "application/json"})


HOSTILE = {
    "spacing": b' \t{\r\n"messages"\t:\r\n[ {"role" :"user" , "content"\n:\n"to @@" } ]\r\n,"n"\t:1 }\r\n ',
    "escapes": (
        rb'{"messages":[{"role":"user","content":"\u0061b \u00e9\ud83d\ude00\/\u002F\"\\ @@ \b\f\n\r\t"}],'
        rb'"x":"\u00E9\uD83D\uDE00\/ \u2028","user":"\u0061"}'
    ),
    "the address itself in escapes": (
        rb'{"messages":[{"role":"user","content":"\u0061nn\u0040mail\u002eexample, @@"}]}'
    ),
    "keys in escapes": rb'{"mess\u0061ges":[{"\u0072ole":"us\u0065r","cont\u0065nt":"@@","x\/y":1}]}',
    "NUL": rb'{"messages":[{"role":"user","content":"\u0000 @@ \u0000"}],"x\u0000":"\u0000"}',
    "signs beyond ASCII": (
        '{"messages":[{"role":"user","content":"é\u2028\u2029\u0085\x7f\ufeff😀 @@"}],'
        '"é":"\u2028"}'.encode()
    ),
    "numbers": (
        b'{"a":123456789012345678901234567890,"b":-0,"c":-0.0,"d":1E+05,"e":0.10e-7,"f":1e-400,"g":1.0,'
        b'"h":18446744073709551616,"i":[0.30000000000000004,5E-324],"temperature":1.70,"n":1,'
        b'"messages":[{"role":"user","content":"@@"}]}'
    ),
    "depth": (
        b'{"x":' + b'[{"a":' * 120 + b"0" + b"}]" * 120 + b',"messages":[{"role":"user","content":"@@"}]}'
    ),
    "odd keys": (
        rb'{"":{"":[]},"a.b":1,"[0]":2,"\"":3,"\\":4,"__proto__":{"x":5},"messages.0.content":"no",'
        rb'"messages":[{"":"","role":"user","content[0]":1,"content":[{"type":"text","text":"@@"}]}]}'
    ),
    "key order": (
        b'{"zeta":1,"messages":[{"content":"@@","role":"user"}],"alpha":2,"model":"m","10":0,"9":0}'
    ),
    "marks for a cache": (
        b'{"messages":[{"role":"user","content":[{ "type":"text","text":"long", "cache_control" : '
        b'{"type":"ephemeral","ttl":"1h" } },{"cache_control":{ },"text":"@@" ,"type":"text"}]}]}'
    ),
    "the address in many places": (
        b'{"messages":[{"role":"user","content":"@@","name":"@@"},{"role":"assistant","content":"@@",'
        b'"refusal":"@@","reasoning_content":"@@","function_call":{"name":"f","arguments":"{\\"a\\":\\"@@\\"}"}},'
        b'{"role":"user","content":["@@",{"type":"text","text":"@@"}]}]}'
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
class TestHostileBodies:
    def test_only_the_redacted_texts_differ(self, proxy: Proxy, name: str) -> None:
        raw = HOSTILE[name].replace(b"@@", MAIL.encode())
        assert post(proxy, raw).status_code == 200
        got = proxy.upstream.seen[-1].body
        assert got == redacted(raw)
        assert MARK.encode() in got
        assert MAIL not in json.dumps(json.loads(got), ensure_ascii=False)

    def test_nothing_differs_where_nothing_is_redacted(self, proxy: Proxy, name: str) -> None:
        raw = HOSTILE[name].replace(b"@@", CALM.encode()).replace(rb"\u0040", b"")
        assert post(proxy, raw).status_code == 200
        assert proxy.upstream.seen[-1].body == raw


TURN = b'{"role":"user","content":"@@"}'
REFUSED = {
    "a byte order mark": b'\xef\xbb\xbf{"messages":[%b]}' % TURN,
    "UTF-16": b'{"messages":[%b]}'.decode().encode("utf-16"),
    "no UTF-8": b'{"messages":[{"role":"user","content":"@@ \xff"}]}',
    "half of a pair": rb'{"messages":[{"role":"user","content":"@@ \ud83d"}]}',
    "a key twice": b'{"messages":[],"messages":[%b]}' % TURN,
    "a key twice, spaced": b'{ "messages" : [ %b ] , "messages" : [ ] }' % TURN,
    "a key twice, once in escapes": rb'{"messages":[{"role":"user","content":"","cont\u0065nt":"@@"}]}',
    "a key twice in a part": (
        b'{"messages":[{"role":"user","content":[{"type":"text","text":"","text":"@@"}]}]}'
    ),
    "a key twice where nobody looks": b'{"messages":[%b],"x":[{"y":{"z":1,"z":1}}]}' % TURN,
    "an empty key twice": b'{"messages":[%b],"x":{"":1,"":2}}' % TURN,
    "a key in capitals": b'{"messages":[{"role":"user","content":"","Content":"@@"}]}',
    "too deep": b'{"messages":[%b],"x":' % TURN + b"[" * 300 + b"]" * 300 + b"}",
    "far too deep": b'{"messages":[%b],"x":' % TURN + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a number without an end": b'{"messages":[%b],"x":1e999}' % TURN,
    "no number": b'{"messages":[%b],"x":NaN}' % TURN,
    "a comma too many": b'{"messages":[%b],}' % TURN,
    "a comment": b'{"messages":[%b]/* */}' % TURN,
    "two documents": b'{"messages":[%b]}{"messages":[]}' % TURN,
    "a line end in a string": b'{"messages":[{"role":"user","content":"@@\n"}]}',
    "NUL behind it": b'{"messages":[%b]}\x00' % TURN,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_two_parsers_could_read_in_two_ways_is_refused(proxy: Proxy, name: str) -> None:
    raw = REFUSED[name].replace(b"@@", MAIL.encode())
    got = post(proxy, raw)
    assert got.status_code == 400
    assert got.json()["error"]["type"] == "invalid_request_error"
    assert MAIL not in got.text
    assert proxy.upstream.seen == proxy.judge.seen == []
