"""The twin of guardrail/backends/litellm_upstream.py: LiteLLM itself between us and two providers.

One speaks as OpenAI does, the other as Anthropic; LiteLLM translates what is not the provider's own.
"""

from __future__ import annotations

import gc
import json
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from guardrail.errors import UpstreamLost
from guardrail.testing import drive_asgi
from guardrail.wire.chat import ChatDialect
from guardrail.wire.chat_stream import ChatStream
from guardrail.wire.completions import CompletionsDialect
from guardrail.wire.dialect import Dialect
from guardrail.wire.messages import MessagesDialect
from guardrail.wire.responses import ResponsesDialect
from guardrail.wire.sse import SseDecoder
from tests.backends.litellm_arguments import LEAD_ELSEWHERE
from tests.fakes import FakeServer, FakeUpstream, Say, Seen, chunk, completion, stream
from tests.wire.claudes import answer as claude_answer
from tests.wire.claudes import said as claude_said
from tests.wire.claudes import text as claude_text
from tests.wire.claudes import whole as claude_whole
from tests.wire.responses import answer as response_answer
from tests.wire.responses import message as response_message

pytest.importorskip("litellm", reason="the extra guardrail[litellm] is not installed")
pytestmark = [
    pytest.mark.anyio,
    # Pydantic about a type of LiteLLM's own, whenever LiteLLM first builds it.
    pytest.mark.filterwarnings("ignore:.*ReadOnly.*:UserWarning"),
    # LiteLLM makes a client for every completion and leaves it to the garbage collector.
    pytest.mark.filterwarnings("ignore:[Uu]nclosed:ResourceWarning"),
]

BOUND_S = 30.0
KEY = "sk-" + "provider-0123456789abcdef"
TEXT = "what the user wrote"
ASKED: dict[str, Any] = {"model": "openai/fake-model", "messages": [{"role": "user", "content": TEXT}]}
EVENTS = {"content-type": "text/event-stream"}


@pytest.fixture(autouse=True)
def _clients_of_litellm_end_here() -> Iterator[None]:
    """Those that it left: another test would be told of them."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def upstream_of(server: FakeServer, **arguments: Any) -> Any:
    from guardrail.backends.litellm_upstream import LiteLLMUpstream

    return LiteLLMUpstream(KEY, server.url, arguments)


async def ask(app: Any, body: dict[str, Any], **more: Any) -> list[Any]:
    with anyio.fail_after(BOUND_S):
        return await drive_asgi(app, body=json.dumps(body).encode(), **more)


def bodies(messages: list[Any]) -> bytes:
    return b"".join(message.get("body", b"") for message in messages)


class TestUpstream:
    async def test_a_whole_answer_is_a_chat_completion(self):
        with FakeUpstream("Fine today.") as server:
            start, body = await ask(upstream_of(server), ASKED)
        assert (start["status"], start["headers"]) == (200, [(b"content-type", b"application/json")])
        (choice,) = ChatDialect().read_response(body["body"])
        assert choice.turn.segments[0].text == "Fine today."
        (seen,) = server.seen
        assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
        assert seen.headers["Authorization"] == f"Bearer {KEY}"
        assert seen.json["messages"] == ASKED["messages"]
        assert seen.json["model"] == "fake-model"

    async def test_a_stream_is_one_too_chunk_by_chunk(self):
        with FakeUpstream("one two three") as server:
            start, *rest = await ask(upstream_of(server), ASKED | {"stream": True})
        assert start["status"] == 200
        assert dict(start["headers"])[b"content-type"].startswith(b"text/event-stream")
        assert [m.get("more_body", False) for m in rest] == [True] * (len(rest) - 1) + [False]
        decoder, stream = SseDecoder(), ChatStream(structured=False)
        events = [event for message in rest for event in decoder.feed(message["body"])]
        assert events[-1].data == b"[DONE]"
        read = list(stream.read(events))
        assert "".join(d.text for event in read for d in event.deltas) == "one two three "
        assert [list(event.finished) for event in read if event.finished] == [[0]]
        assert len(rest) > 4

    async def test_what_openais_api_knows_is_passed_on(self):
        known = {
            "temperature": 0.3,
            "top_p": 0.9,
            "n": 2,
            "seed": 7,
            "stop": ["x"],
            "max_tokens": 9,
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            "tool_choice": "auto",
            "response_format": {"type": "json_object"},
        }
        with FakeUpstream() as server:
            await ask(upstream_of(server), ASKED | known)
        assert {key: server.seen[0].json.get(key) for key in known} == known

    @pytest.mark.parametrize("name", [*LEAD_ELSEWHERE, "unknown"])
    async def test_a_caller_reaches_no_argument_of_litellm(self, name: str):
        """Neither another address, nor another key, nor messages that nobody has judged."""
        unjudged = [{"role": "user", "content": "UNJUDGED"}]
        with FakeUpstream("Fine.") as server, FakeUpstream("Evil.") as other:
            values: dict[str, Any] = {
                "api_base": other.url,
                "base_url": other.url,
                "api_key": "sk-" + "callers",
                "custom_llm_provider": "anthropic",
                "extra_body": {"messages": unjudged},
                "extra_headers": {"Authorization": "Bearer callers"},
                "headers": {"Authorization": "Bearer callers"},
                "fallbacks": [{"model": "openai/x", "api_base": other.url, "messages": unjudged}],
                "model_list": [
                    {"model_name": "a", "litellm_params": {"model": "openai/x", "api_base": other.url}}
                ],
                "timeout": 0.000001,
                "mock_response": "MOCKED",
                "roles": {"user": {"pre_message": "UNJUDGED", "post_message": ""}},
                "initial_prompt_value": "UNJUDGED",
            }
            messages = await ask(upstream_of(server), ASKED | {name: values.get(name, "UNJUDGED")})
            plain = await ask(upstream_of(server), ASKED)
        assert messages[0]["status"] == 200
        assert json.loads(bodies(messages)) == json.loads(bodies(plain))
        with_it, without = server.seen
        assert with_it.json == without.json
        stable = {k: v for k, v in without.headers.items() if not k.lower().startswith("x-stainless")}
        assert {
            k: v for k, v in with_it.headers.items() if not k.lower().startswith("x-stainless")
        } == stable
        assert other.seen == []

    @pytest.mark.parametrize("provider", ["oobabooga/", "huggingface/", "openai/", ""])
    async def test_a_model_that_is_an_address_is_refused_unless_it_is_configured(self, provider: str):
        with FakeUpstream() as server, FakeUpstream("Evil.") as other:
            start, body = await ask(upstream_of(server), ASKED | {"model": provider + other.url})
            assert (start["status"], json.loads(body["body"])["error"]["param"]) == (400, "model")
            assert (server.seen, other.seen) == ([], [])
            app = upstream_of(server, model="openai/http://pinned")
            await ask(app, ASKED | {"model": provider + other.url})
        assert (len(server.seen), other.seen) == (1, [])

    async def test_a_call_that_fails_goes_to_no_fallback_of_the_callers(self):
        with FakeServer(Say(b"{}", 500)) as server, FakeUpstream("Evil.") as other:
            fallback = {"model": "openai/x", "api_base": other.url}
            messages = await ask(upstream_of(server), ASKED | {"fallbacks": [fallback], "num_retries": 9})
        assert messages[0]["status"] == 500
        assert (len(server.seen), other.seen) == (1, [])

    async def test_configured_arguments_go_before_the_callers(self):
        with FakeUpstream() as server:
            app = upstream_of(server, temperature=0.1, model="openai/pinned")
            await ask(app, ASKED | {"temperature": 2, "model": "openai/other"})
        assert (server.seen[0].json["temperature"], server.seen[0].json["model"]) == (0.1, "pinned")

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503])
    async def test_an_error_of_the_provider_keeps_its_status_and_tells_nothing(self, status: int):
        raw = json.dumps({"error": {"message": f"about {TEXT} and {KEY}"}}).encode()
        with FakeServer(Say(raw, status)) as server:
            start, body = await ask(upstream_of(server), ASKED)
        assert start["status"] in (status, 400 if status == 422 else status)
        told = json.loads(body["body"])["error"]
        assert told["code"] == "upstream_error"
        assert TEXT not in body["body"].decode()
        assert KEY not in body["body"].decode()
        assert len(server.seen) == 1

    async def test_a_bad_gateway_is_a_lost_upstream(self):
        lost = pytest.raises(UpstreamLost, match="BadGatewayError")
        with FakeServer(Say(b"{}", 502)) as server, lost as caught:
            await ask(upstream_of(server), ASKED)
        assert TEXT not in "".join(traceback.format_exception(caught.value))

    async def test_an_upstream_that_is_not_there_is_an_error(self):
        with FakeServer(Say(b"")) as server:
            pass
        start, _ = await ask(upstream_of(server), ASKED)
        assert start["status"] >= 500

    async def test_an_unknown_model_is_the_callers_fault(self):
        with FakeUpstream() as server:
            from guardrail.backends.litellm_upstream import LiteLLMUpstream

            start, _ = await ask(LiteLLMUpstream("", "", {}), ASKED | {"model": "no-such-provider/x"})
        assert start["status"] == 400
        assert server.seen == []

    async def test_a_stream_that_breaks_off_never_looks_whole(self):
        say = Say(
            headers={"content-type": "text/event-stream"}, chunks=[chunk({"content": "One "})], drop=True
        )
        got: list[Any] = []

        async def keeping(scope: Any, receive: Any, send: Any) -> None:
            async def noting(message: Any) -> None:
                got.append(message)
                await send(message)

            await upstream_of(server)(scope, receive, noting)

        with FakeServer(say) as server, pytest.raises(UpstreamLost, match="broke off"):
            await ask(keeping, ASKED | {"stream": True})
        assert b"[DONE]" not in bodies(got)
        assert all(message.get("more_body", True) for message in got)

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v1/models"),
            ("POST", "/v1/images/generations"),
            ("POST", "/v1/messages/count_tokens"),
            ("GET", "/v1/chat/completions"),
            ("HEAD", "/"),
        ],
    )
    async def test_any_other_route_is_not_found(self, method: str, path: str):
        with FakeUpstream() as server:
            start, body = await drive_asgi(upstream_of(server), path, b"", method=method)
        assert start["status"] == 404
        assert json.loads(body["body"])["error"]["code"] == "not_found"
        assert server.seen == []

    async def test_a_request_that_is_cancelled_is_cancelled_at_the_provider(self):
        with FakeServer(Say(completion("late"), delay_s=60)) as server:
            with anyio.move_on_after(0.5) as scope:
                await ask(upstream_of(server), ASKED)
            assert scope.cancelled_caught
            with anyio.fail_after(BOUND_S):
                while not server.seen[0].cancelled:  # noqa: ASYNC110 - the server runs in another thread
                    await anyio.sleep(0.01)

    async def test_nothing_is_printed_and_no_text_is_logged(
        self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ):
        with FakeServer(Say(b"{}", 401)) as server, caplog.at_level("INFO"):
            await ask(upstream_of(server), ASKED)
        told = caplog.text + "".join(capfd.readouterr())
        assert TEXT not in told
        assert KEY not in told
        assert "Give Feedback" not in told


WORDS = "Fine words in an answer."
TURNS = [{"role": "user", "content": TEXT}]
ROUTES: dict[str, tuple[Dialect, dict[str, Any]]] = {
    "/v1/chat/completions": (ChatDialect(), {"messages": TURNS}),
    "/v1/completions": (CompletionsDialect(), {"prompt": TEXT}),
    "/v1/responses": (ResponsesDialect(), {"input": TEXT}),
    "/v1/messages": (MessagesDialect(), {"messages": TURNS, "max_tokens": 99}),
}


def provider(seen: Seen) -> Say:
    """Either provider: it answers each route in that route's own form."""
    streaming = seen.json.get("stream")
    pieces = [word + " " for word in WORDS.split(" ")]
    if seen.path == "/v1/messages":
        events = [one.raw for one in claude_whole((claude_text(""), [claude_said(p) for p in pieces]))]
        return Say(headers=EVENTS, chunks=events) if streaming else Say(claude_answer(claude_text(WORDS)))
    if seen.path == "/v1/responses":
        return Say(response_answer(response_message(WORDS)))
    if seen.path == "/v1/completions":
        return _completion(pieces, streaming=bool(streaming))
    return stream(pieces) if streaming else Say(completion(WORDS))


def _completion(pieces: list[str], *, streaming: bool) -> Say:
    head = {"id": "c", "object": "text_completion", "created": 1760000000, "model": "m"}
    ends: list[tuple[str, str | None]] = [(piece, None) for piece in pieces] + [("", "stop")]
    if not streaming:
        ends = [(WORDS, "stop")]
    bodies = [
        json.dumps({**head, "choices": [{"index": 0, "text": text, "finish_reason": end}]}).encode()
        for text, end in ends
    ]
    if not streaming:
        return Say(bodies[0])
    return Say(headers=EVENTS, chunks=[*(b"data: " + one + b"\n\n" for one in bodies), b"data: [DONE]\n\n"])


def of(name: str, server: FakeServer) -> tuple[Any, str]:
    """An upstream at this provider, and a model of it."""
    from guardrail.backends.litellm_upstream import LiteLLMUpstream

    base = server.url if name == "openai" else server.url.removesuffix("/v1")
    return LiteLLMUpstream(KEY, base, {}), f"{name}/fake-model"


@pytest.mark.parametrize("name", ["openai", "anthropic"])
@pytest.mark.parametrize("path", ROUTES)
class TestRoutes:
    async def test_a_whole_answer_is_in_the_routes_form(self, name: str, path: str):
        dialect, fields = ROUTES[path]
        with FakeServer(provider) as server:
            app, model = of(name, server)
            start, body = await ask(app, {"model": model, **fields}, path=path)
        assert (start["status"], start["headers"]) == (200, [(b"content-type", b"application/json")])
        [choice] = dialect.read_response(body["body"])
        assert [segment.text for segment in choice.turn.segments] == [WORDS]
        assert choice.unreadable == ()
        [seen] = server.seen
        assert TEXT in seen.body.decode()
        key = seen.headers.get("x-api-key") or seen.headers["Authorization"].removeprefix("Bearer ")
        assert key == KEY

    async def test_a_stream_is_too_and_has_its_end(self, name: str, path: str):
        dialect, fields = ROUTES[path]
        asked = {"model": "m", **fields, "stream": True}
        with FakeServer(provider) as server:
            app, asked["model"] = of(name, server)
            start, *rest = await ask(app, asked, path=path)
        assert start["status"] == 200
        assert dict(start["headers"])[b"content-type"].startswith(b"text/event-stream")
        events = SseDecoder().feed(bodies(rest))
        reading = dialect.stream(dialect.read_request(json.dumps(asked).encode()))
        read = list(reading.read(events))
        told = "".join(delta.text for one in read for delta in one.deltas)
        assert told.startswith(WORDS)
        assert {choice for one in read for choice in one.finished} == {0}
        assert not [one.unreadable for one in read if one.unreadable]
        openai_style = path.endswith("completions")
        assert (events[-1].data == b"[DONE]") is openai_style
        if not openai_style:
            names = [one.raw.split(b"\n")[0] for one in events]
            assert names == [b"event: " + json.loads(one.data or b"")["type"].encode() for one in events]
            assert names[-1] in (b"event: message_stop", b"event: response.completed")

    async def test_an_error_keeps_its_status_and_tells_nothing(self, name: str, path: str):
        raw = json.dumps({"error": {"message": f"about {TEXT} and {KEY}"}}).encode()
        with FakeServer(Say(raw, 429)) as server:
            app, model = of(name, server)
            start, body = await ask(app, {"model": model, **ROUTES[path][1]}, path=path)
        assert start["status"] == 429
        told = json.loads(body["body"])
        assert told.get("type") == ("error" if path == "/v1/messages" else None)
        assert told["error"]["message"].startswith("the provider answered")
        assert TEXT not in body["body"].decode()
        assert KEY not in body["body"].decode()
        assert len(server.seen) == 1

    async def test_a_bad_gateway_is_a_lost_upstream(self, name: str, path: str):
        with FakeServer(Say(b"{}", 502)) as server:
            app, model = of(name, server)
            with pytest.raises(UpstreamLost) as caught:
                await ask(app, {"model": model, **ROUTES[path][1]}, path=path)
        assert TEXT not in "".join(traceback.format_exception(caught.value))

    @pytest.mark.parametrize("field", ["api_base", "base_url", "mock_response", "extra_body", "prompt_id"])
    async def test_a_caller_reaches_no_argument_of_litellm(self, name: str, path: str, field: str):
        with FakeServer(provider) as server, FakeServer(provider) as other:
            app, model = of(name, server)
            value = {"messages": "UNJUDGED"} if field == "extra_body" else other.url
            asked = {"model": model, **ROUTES[path][1], field: value}
            start, _ = await ask(app, asked, path=path)
        assert start["status"] == 200
        assert (len(server.seen), other.seen) == (1, [])
        assert b"UNJUDGED" not in server.seen[0].body

    async def test_what_a_route_needs_is_asked_for(self, name: str, path: str):
        for missing in ROUTES[path][1]:
            with FakeServer(provider) as server:
                app, model = of(name, server)
                fields = {key: value for key, value in ROUTES[path][1].items() if key != missing}
                start, body = await ask(app, {"model": model, **fields}, path=path)
            assert start["status"] == 400
            assert missing in json.loads(body["body"])["error"]["message"]
            assert server.seen == []


class TestEmbeddings:
    VECTOR = json.dumps(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
            "model": "m",
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }
    ).encode()

    async def test_vectors_come_back(self):
        with FakeServer(Say(self.VECTOR)) as server:
            app, _ = of("openai", server)
            model = "openai/text-embedding-3-small"
            asked = {"model": model, "input": [TEXT], "encoding_format": "float", "dimensions": 2}
            start, body = await ask(app, asked, path="/v1/embeddings")
        assert start["status"] == 200
        told = json.loads(body["body"])
        assert [item["embedding"] for item in told["data"]] == [[0.5, 0.25]]
        assert (told["object"], told["usage"]["total_tokens"]) == ("list", 1)
        sent = server.seen[0].json
        assert (sent["input"], sent["dimensions"]) == ([TEXT], 2)

    @pytest.mark.parametrize("status", [400, 429, 500])
    async def test_an_error_keeps_its_status(self, status: int):
        with FakeServer(Say(b"{}", status)) as server:
            app, model = of("openai", server)
            start, _ = await ask(app, {"model": model, "input": TEXT}, path="/v1/embeddings")
        assert start["status"] == status
        assert server.seen

    async def test_a_provider_without_them_is_an_error(self):
        with FakeServer(Say(self.VECTOR)) as server:
            app, model = of("anthropic", server)
            start, body = await ask(app, {"model": model, "input": TEXT}, path="/v1/embeddings")
        assert start["status"] == 400
        assert json.loads(body["body"])["error"]["code"] == "upstream_error"
        assert server.seen == []
