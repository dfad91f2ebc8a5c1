"""The twin of guardrail/frontends/openai_client.py: the real OpenAI SDK guarded within, over respx."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx
import openai
import pytest
import respx

from guardrail import GuardrailEngine
from guardrail.core.policy import Action, Stage, Strategy
from guardrail.core.release import StreamRules
from guardrail.core.vault import RedactionRules
from guardrail.errors import ConfigError
from guardrail.frontends.exchange import Settings
from guardrail.frontends.middleware import DIALECTS, Route
from guardrail.frontends.openai_client import openai_async_http_client, openai_http_client
from guardrail.testing import MemorySink
from guardrail.wire.refusals import Refusals
from guardrail.wire.replies import Refusal
from tests.fakes import DONE, chunk, completion
from tests.frontends.configs import written
from tests.frontends.test_filters import MAIL, engine, user
from tests.processes import run_code
from tests.threads import threads

BASE = "https://upstream.example/api/v1"
CHAT = f"{BASE}/chat/completions"
REFUSAL = "I can't help with that."
HELLO: list[Any] = [user("Hello")]
SHORT = Settings(streaming=StreamRules(window=20, overlap=10))


@pytest.fixture
def upstream() -> Iterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        yield router


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


Make = Callable[..., openai.OpenAI]


@pytest.fixture
def make(sink: MemorySink) -> Iterator[Make]:
    """Makes synchronous clients; closing them must leave no thread behind."""
    before = threads()
    made: list[openai.OpenAI] = []

    def one(guard: Any = None, *, max_retries: int = 0, **options: Any) -> openai.OpenAI:
        http = openai_http_client(guard or engine(sink), **{"settings": SHORT, **options})
        sdk = openai.OpenAI(base_url=BASE, api_key="key", http_client=http, max_retries=max_retries)
        made.append(sdk)
        return sdk

    yield one
    for sdk in made:
        sdk.close()
    assert threads() <= before


@pytest.fixture
def client(make: Make) -> openai.OpenAI:
    return make()


def aclient(guard: GuardrailEngine, **options: Any) -> openai.AsyncOpenAI:
    http = openai_async_http_client(guard, **{"settings": SHORT, **options})
    return openai.AsyncOpenAI(base_url=BASE, api_key="key", http_client=http, max_retries=0)


def says(text: str | None, **more: Any) -> httpx.Response:
    return httpx.Response(
        200, content=completion(text, **more), headers={"content-type": "application/json"}
    )


class Live(httpx.AsyncByteStream):
    """A stream of chunks that waits before the last of them until it is told to go on."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks
        self.go_on = threading.Event()
        self.told: list[str] = []

    async def __aiter__(self) -> Any:
        try:
            for number, one in enumerate(self.chunks, 1):
                if number == len(self.chunks):
                    while not self.go_on.is_set():  # noqa: ASYNC110 - set in another thread
                        await asyncio.sleep(0.005)
                yield one
        except asyncio.CancelledError:
            self.told.append("cancelled")
            raise

    async def aclose(self) -> None:
        self.told.append("closed")
        self.go_on.set()


def streams(*words: str, live: bool = False) -> httpx.Response:
    chunks = [*(chunk({"content": word}) for word in words), chunk({}, finish_reason="stop") + DONE]
    headers = {"content-type": "text/event-stream"}
    if live:
        return httpx.Response(200, headers=headers, stream=Live(*chunks))
    return httpx.Response(200, headers=headers, content=b"".join(chunks))


def ask(client: openai.OpenAI, *turns: Any, **options: Any) -> Any:
    return client.chat.completions.create(model="m", messages=list(turns) or HELLO, **options)


def actions(sink: MemorySink) -> list[tuple[Stage, Action]]:
    return [(record.decision.stage, record.decision.action) for record in sink.records]


class TestAnswers:
    def test_a_pass_is_what_the_upstream_sent(self, upstream: Any, make: Make, sink: MemorySink):
        route = upstream.post(CHAT).mock(return_value=says("Fine."))
        client = make()
        raw = client.chat.completions.with_raw_response.create(model="m", messages=HELLO)
        assert raw.content == completion("Fine.")
        assert raw.headers["x-guardrail-decision"] == "pass"
        sent = route.calls.last.request
        assert json.loads(sent.content) == {"model": "m", "messages": HELLO}
        assert sent.headers["authorization"] == "Bearer key"
        assert actions(sink) == [(Stage.INPUT, Action.PASS), (Stage.OUTPUT, Action.PASS)]
        assert {record.decision.id for record in sink.records} == {raw.headers["x-guardrail-id"]}

    def test_a_blocked_prompt_is_refused_and_not_sent(self, upstream: Any, client: openai.OpenAI):
        route = upstream.post(CHAT).mock(return_value=says("never"))
        choice = ask(client, user("a forbidden thing")).choices[0]
        assert (choice.message.content, choice.finish_reason) == (REFUSAL, "content_filter")
        assert not route.called

    def test_a_blocked_answer_is_refused(self, upstream: Any, client: openai.OpenAI):
        upstream.post(CHAT).mock(return_value=says("a forbidden thing"))
        choice = ask(client).choices[0]
        assert (choice.message.content, choice.finish_reason) == (REFUSAL, "content_filter")

    def test_redactions_on_both_ways(self, upstream: Any, client: openai.OpenAI):
        route = upstream.post(CHAT).mock(return_value=says(f"Write to {MAIL}."))
        assert ask(client, user(f"I am {MAIL}")).choices[0].message.content == "Write to [REDACTED:HIDE]."
        assert json.loads(route.calls.last.request.content)["messages"][0]["content"] == (
            "I am [REDACTED:HIDE]"
        )

    def test_what_was_hidden_is_restored_in_text_and_tool_calls(self, upstream: Any, make: Make):
        client = make(engine(redaction=RedactionRules(Strategy.PLACEHOLDER)))

        def answer(request: httpx.Request) -> httpx.Response:
            (turn,) = json.loads(request.content)["messages"]
            placeholder = turn["content"].removeprefix("I am ")
            assert MAIL not in turn["content"]
            function = {"name": "mail", "arguments": json.dumps({"to": placeholder})}
            call = {"id": "c", "type": "function", "function": function}
            return says(f"Hello {placeholder}", tool_calls=[call])

        upstream.post(CHAT).mock(side_effect=answer)
        message = ask(client, user(f"I am {MAIL}")).choices[0].message
        assert message.content == f"Hello {MAIL}"
        assert json.loads(message.tool_calls[0].function.arguments) == {"to": MAIL}

    def test_a_check_that_cannot_be_made_is_503_and_not_retried(self, upstream: Any, make: Make):
        route = upstream.post(CHAT).mock(return_value=says("never"))
        with pytest.raises(openai.InternalServerError) as caught:
            ask(make(max_retries=3), user("an outage"))
        assert (caught.value.status_code, caught.value.code) == (503, "guardrail_unavailable")
        assert not route.called

    def test_the_responses_api(self, upstream: Any, client: openai.OpenAI):
        text = {"type": "output_text", "text": f"Write to {MAIL}.", "annotations": []}
        message = {
            "type": "message",
            "id": "m",
            "role": "assistant",
            "status": "completed",
            "content": [text],
        }
        answer = {"id": "r", "object": "response", "created_at": 1, "status": "completed", "model": "m"}
        route = upstream.post(f"{BASE}/responses").mock(
            return_value=httpx.Response(200, json={**answer, "output": [message], "tools": []})
        )
        said = client.responses.create(model="m", input=f"I am {MAIL}")
        assert said.output_text == "Write to [REDACTED:HIDE]."
        assert json.loads(route.calls.last.request.content)["input"] == "I am [REDACTED:HIDE]"
        refused: Any = client.responses.create(model="m", input="a forbidden thing").output[0]
        assert refused.content[0].refusal == REFUSAL
        assert route.call_count == 1

    def test_settings_and_an_error_style(self, upstream: Any, make: Make):
        refusals = Refusals({stage: Refusal(style="error") for stage in Stage})
        client = make(settings=Settings(refusals=refusals))
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, user("a forbidden thing"))
        assert caught.value.code == "content_filter"


class TestErrors:
    def test_an_http_error_is_passed_on_verbatim(self, upstream: Any, client: openai.OpenAI):
        body = b'{"error": {"message": "slow down", "code": "busy", "odd": [1]}}'
        upstream.post(CHAT).mock(return_value=httpx.Response(429, content=body, headers={"x-own": "1"}))
        with pytest.raises(openai.RateLimitError) as caught:
            ask(client)
        assert (caught.value.response.content, caught.value.response.headers["x-own"]) == (body, "1")

    def test_the_sdk_retries_a_connection_error(self, upstream: Any, make: Make):
        upstream.post(CHAT).mock(
            side_effect=[httpx.ConnectError("no"), httpx.ReadTimeout("l"), says("At last.")]
        )
        assert ask(make(max_retries=2)).choices[0].message.content == "At last."

    @pytest.mark.parametrize(
        ("below", "above"),
        [
            (httpx.ConnectError("no"), openai.APIConnectionError),
            (httpx.ReadTimeout("late"), openai.APITimeoutError),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    def test_what_fails_below_is_what_the_sdk_sees(
        self, upstream: Any, client: openai.OpenAI, below: Any, above: Any, stream: bool
    ):
        upstream.post(CHAT).mock(side_effect=below)
        with pytest.raises(above) as caught:
            ask(client, stream=stream)
        assert caught.value.__cause__ is below

    def test_the_sdk_s_timeout_goes_below(self, upstream: Any, client: openai.OpenAI):
        route = upstream.post(CHAT).mock(return_value=says("Fine."))
        ask(client, timeout=httpx.Timeout(9, read=4))
        assert route.calls.last.request.extensions["timeout"]["read"] == 4


class TestPaths:
    def test_what_no_dialect_covers_is_refused(self, upstream: Any, client: openai.OpenAI):
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.images.generate(prompt="a forbidden thing")
        assert caught.value.code == "unguarded_path"
        assert not upstream.calls

    @pytest.mark.parametrize("ending", sorted(DIALECTS))
    def test_every_dialect_of_the_middleware_is_guarded(
        self, upstream: Any, client: openai.OpenAI, ending: str
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            client.post(ending, body={"messages": 7, "input": {}, "prompt": {}}, cast_to=object)
        assert caught.value.status_code == 400, "the guard cannot read it"
        assert caught.value.response.headers["x-guardrail-decision"] == "block"
        assert not upstream.calls

    def test_the_model_list_passes(self, upstream: Any, client: openai.OpenAI):
        upstream.get(f"{BASE}/models").mock(
            return_value=httpx.Response(200, json={"object": "list", "data": []})
        )
        assert client.models.list().data == []

    def test_what_is_allowed_passes_unguarded_with_its_body(
        self, upstream: Any, make: Make, sink: MemorySink
    ):
        route = upstream.post(f"{BASE}/files").mock(return_value=httpx.Response(200, json={"id": "f"}))
        client = make(allow=["/v1/files"])
        assert client.files.create(file=("a.txt", b"forbidden" * 9999), purpose="batch").id == "f"
        assert route.calls.last.request.content.count(b"forbidden") == 9999
        assert sink.records == []

    @pytest.mark.parametrize("allow", [[], ["/v1/agent"]], ids=["named", "and allowed"])
    def test_a_route_of_one_s_own_is_guarded(
        self, upstream: Any, make: Make, sink: MemorySink, allow: list[str]
    ):
        reply = httpx.Response(200, json={"reply": "a forbidden thing"})
        upstream.post(f"{BASE}/agent").mock(return_value=reply)
        route = Route("/v1/agent", input=("$.message",), output=("$.reply",))
        client = make(settings=Settings(routes=[route]), allow=allow)
        answer: Any = client.post("/agent", body={"message": "Hello"}, cast_to=object)
        assert answer == {"reply": REFUSAL}
        assert actions(sink) == [(Stage.INPUT, Action.PASS), (Stage.OUTPUT, Action.BLOCK)]

    @pytest.mark.parametrize("base", ["https://h.example/openai/deployments/d", "http://h.example:81/v1"])
    def test_a_chat_route_is_guarded_wherever_it_stands(
        self, upstream: Any, client: openai.OpenAI, base: str
    ):
        route = upstream.post(f"{base}/chat/completions").mock(return_value=says("Fine."))
        there = client.with_options(base_url=base)
        assert ask(there).choices[0].message.content == "Fine."
        assert ask(there, user("forbidden")).choices[0].message.content == REFUSAL
        assert route.call_count == 1

    def test_a_redirect_is_guarded_too(self, upstream: Any, client: openai.OpenAI):
        upstream.post(CHAT).mock(return_value=httpx.Response(307, headers={"location": f"{BASE}/images"}))
        with pytest.raises(openai.PermissionDeniedError):
            ask(client)


class TestStreams:
    def test_the_first_words_come_before_the_last_was_sent(self, upstream: Any, client: openai.OpenAI):
        answer = streams(*["One calm word after another. "] * 8, live=True)
        upstream.post(CHAT).mock(return_value=answer)
        parts = iter(ask(client, stream=True))
        assert next(parts).choices[0].delta.content
        live: Any = answer.stream
        assert not live.go_on.is_set()
        live.go_on.set()
        last = list(parts)[-1]
        assert last.choices[0].finish_reason == "stop"

    def test_text_is_redacted_and_adds_up(self, upstream: Any, client: openai.OpenAI):
        upstream.post(CHAT).mock(return_value=streams("Write to ", MAIL[:4], MAIL[4:], " and wait."))
        text = "".join(part.choices[0].delta.content or "" for part in ask(client, stream=True))
        assert text == "Write to [REDACTED:HIDE] and wait."

    def test_what_was_hidden_is_restored_in_text_and_tool_calls(self, upstream: Any, make: Make):
        def answer(request: httpx.Request) -> httpx.Response:
            (turn,) = json.loads(request.content)["messages"]
            placeholder = turn["content"].removeprefix("I am ")
            assert MAIL not in turn["content"]
            arguments = json.dumps({"to": placeholder})
            head = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
            parts = [{"index": 0, "function": {"arguments": letter}} for letter in arguments]
            chunks = [*(chunk({"content": letter}) for letter in f"You are {placeholder}.")]
            chunks += [chunk({"tool_calls": [part]}) for part in [head, *parts]]
            chunks += [chunk({}, finish_reason="tool_calls"), DONE]
            headers = {"content-type": "text/event-stream"}
            return httpx.Response(200, headers=headers, content=b"".join(chunks))

        upstream.post(CHAT).mock(side_effect=answer)
        client = make(engine(redaction=RedactionRules(Strategy.PLACEHOLDER)))
        text, arguments = "", ""
        for part in ask(client, user(f"I am {MAIL}"), stream=True):
            delta = part.choices[0].delta
            text += delta.content or ""
            arguments += "".join(call.function.arguments or "" for call in delta.tool_calls or ())
        assert text == f"You are {MAIL}."
        assert json.loads(arguments) == {"to": MAIL}

    def test_a_block_ends_it_and_closes_the_upstream(
        self, upstream: Any, client: openai.OpenAI, sink: MemorySink
    ):
        answer = streams(
            *["One calm word after another. "] * 8, "Then a forbidden one. ", "x" * 90, live=True
        )
        upstream.post(CHAT).mock(return_value=answer)
        parts = list(ask(client, stream=True))
        text = "".join(part.choices[0].delta.content or "" for part in parts)
        assert "forbidden" not in text
        assert parts[-1].choices[0].finish_reason == "content_filter"
        live: Any = answer.stream
        assert "closed" in live.told
        assert actions(sink) == [(Stage.INPUT, Action.PASS), (Stage.OUTPUT, Action.BLOCK)]

    def test_closing_early_cancels_the_upstream_and_is_recorded(
        self, upstream: Any, client: openai.OpenAI, sink: MemorySink
    ):
        answer = streams(*["One calm word after another. "] * 8, live=True)
        upstream.post(CHAT).mock(return_value=answer)
        with ask(client, stream=True) as parts:
            next(iter(parts))
            assert len(sink.records) == 1
        live: Any = answer.stream
        assert live.told == ["cancelled", "closed"]
        assert [record.cancelled for record in sink.records] == [False, True]

    def test_a_whole_stream_is_not_recorded_as_cancelled(
        self, upstream: Any, client: openai.OpenAI, sink: MemorySink
    ):
        upstream.post(CHAT).mock(return_value=streams("Fine."))
        list(ask(client, stream=True))
        assert [record.cancelled for record in sink.records] == [False, False]

    def test_an_upstream_lost_in_mid_stream_is_an_error(self, upstream: Any, client: openai.OpenAI):
        class Broken(httpx.AsyncByteStream):
            async def __aiter__(self) -> Any:
                for _ in range(9):
                    yield chunk({"content": "One calm word after another. "})
                raise httpx.ReadError("cut")

        headers = {"content-type": "text/event-stream"}
        upstream.post(CHAT).mock(return_value=httpx.Response(200, headers=headers, stream=Broken()))
        seen = []
        with pytest.raises(openai.APIError):
            seen.extend(ask(client, stream=True))


@pytest.mark.anyio
class TestAsynchronous:
    async def test_answers_streams_and_blocks(self, upstream: Any, sink: MemorySink):
        upstream.post(CHAT).mock(side_effect=[says("Fine."), streams("Write to ", MAIL, ".")])
        async with aclient(engine(sink)) as client:
            create: Any = client.chat.completions.create
            assert (await create(model="m", messages=HELLO)).choices[0].message.content == "Fine."
            parts = await create(model="m", messages=HELLO, stream=True)
            text = "".join([part.choices[0].delta.content or "" async for part in parts])
            assert text == "Write to [REDACTED:HIDE]."
            refused = await create(model="m", messages=[user("forbidden")])
            assert refused.choices[0].finish_reason == "content_filter"

    async def test_it_starts_no_loop_of_its_own(self, upstream: Any):
        upstream.post(CHAT).mock(return_value=says("Fine."))
        async with aclient(engine()) as client:
            await client.chat.completions.create(model="m", messages=HELLO)
            assert [thread for thread in threads() if "portal" in thread.name] == []

    async def test_a_call_that_is_cancelled_ends_the_upstream_s_and_is_recorded(
        self, upstream: Any, sink: MemorySink
    ):
        asked, told = anyio.Event(), []

        async def answer(request: httpx.Request) -> httpx.Response:
            asked.set()
            try:
                await anyio.sleep_forever()
            finally:
                told.append("cancelled")

        upstream.post(CHAT).mock(side_effect=answer)
        async with aclient(engine(sink)) as client, anyio.create_task_group() as group:
            group.start_soon(lambda: client.chat.completions.create(model="m", messages=HELLO))
            await asked.wait()
            group.cancel_scope.cancel()
        assert told == ["cancelled"]
        assert actions(sink) == [(Stage.INPUT, Action.PASS)]

    async def test_an_early_close_of_a_stream(self, upstream: Any, sink: MemorySink):
        answer = streams(*["One calm word after another. "] * 8, live=True)
        upstream.post(CHAT).mock(return_value=answer)
        async with aclient(engine(sink)) as client:
            parts = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
            await anext(aiter(parts))
            await parts.close()
            assert [record.cancelled for record in sink.records] == [False, True]

    async def test_errors_from_below(self, upstream: Any):
        below = httpx.ConnectError("no")
        upstream.post(CHAT).mock(side_effect=below)
        async with aclient(engine()) as client:
            with pytest.raises(openai.APIConnectionError) as caught:
                await client.chat.completions.create(model="m", messages=HELLO)
        assert caught.value.__cause__ is below


class TestLife:
    def test_many_threads_share_one_client_and_one_loop(self, upstream: Any, make: Make):
        upstream.post(CHAT).mock(
            side_effect=lambda request: says(
                "You: " + str(json.loads(request.content)["messages"][0]["content"])
            )
        )
        client, before = make(), len(threads())

        def one(number: int) -> str:
            text = f"number {number}" + (" forbidden" if number % 3 == 0 else "")
            return str(ask(client, user(text)).choices[0].message.content)

        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(one, range(60)))
            assert len(threads()) <= before + 12 + 1
        assert answers == [f"You: number {n}" if n % 3 else REFUSAL for n in range(60)]

    @pytest.mark.anyio
    async def test_the_synchronous_client_works_inside_a_running_loop(self, upstream: Any, make: Make):
        upstream.post(CHAT).mock(return_value=says("Fine."))
        assert ask(make()).choices[0].message.content == "Fine."

    def test_a_closed_client_says_so(self, make: Make):
        client = make()
        client.close()
        with pytest.raises(openai.APIConnectionError):
            ask(client)

    def test_a_transport_of_one_s_own(self, make: Make):
        class Own(httpx.MockTransport):
            closed = False

            async def aclose(self) -> None:
                self.closed = True

        own = Own(lambda request: says("Mine."))
        client = make(transport=own)
        assert ask(client).choices[0].message.content == "Mine."
        client.close()
        assert own.closed
        with pytest.raises(TypeError, match="AsyncBaseTransport"):
            openai_http_client(engine(), transport=httpx.HTTPTransport())  # type: ignore[arg-type]

    def test_proxies_of_the_environment_do_not_lead_past_the_guard(
        self, upstream: Any, make: Make, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        upstream.post(CHAT).mock(return_value=says("a forbidden thing"))
        assert ask(make()).choices[0].message.content == REFUSAL

    def test_from_a_configuration_file(self, upstream: Any, make: Make, tmp_path: Path):
        file = written(tmp_path, "refusal: {message: Not here.}")
        upstream.post(CHAT).mock(return_value=says("Fine."))
        client = make(file, settings=None)
        assert ask(client).choices[0].message.content == "Fine."
        client.close()
        assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 2
        with pytest.raises(ConfigError):
            openai_async_http_client(tmp_path / "nowhere.yaml")

    def test_a_process_that_closes_nothing_still_ends(self):
        done = run_code(_OPEN + "held = ask(client, stream=True); print('begun')")
        assert (done.stdout, done.stderr, done.returncode) == ("begun\n", "", 0)

    def test_a_process_ends_with_a_stream_that_was_begun(self):
        done = run_code(_OPEN + "held = ask(client, stream=True); next(iter(held)); print('begun')")
        assert (done.stdout, done.stderr, done.returncode) == ("begun\n", "", 0)

    def test_streams_that_nobody_finished_may_be_collected_in_any_thread(self):
        code = (
            "import gc\n"
            "gc.set_threshold(100, 1, 1)\n"
            "for _ in range(60):\n"
            "    held = ask(client, stream=True)\n"
            "    next(iter(held))\n"
            "    del held\n"
            "client.close()\n"
            "print('whole')"
        )
        done = run_code(_OPEN + code)
        assert (done.stdout, done.stderr, done.returncode) == ("whole\n", "", 0)

    def test_a_stream_may_be_closed_after_its_client(self, upstream: Any, make: Make):
        upstream.post(CHAT).mock(return_value=streams(*["Word after word. "] * 30, live=True))
        client, before = make(), threads()
        parts = ask(client, stream=True)
        next(iter(parts))
        client.close()
        with pytest.raises((httpx.ReadError, openai.APIConnectionError)):
            list(parts)
        parts.close()
        assert threads() <= before


_OPEN = (
    "import httpx, openai\n"
    "from tests.frontends.test_openai_client import *\n"
    "own = httpx.MockTransport(lambda request: streams(*['Word after word. '] * 30, live=True))\n"
    "http = openai_http_client(engine(), transport=own)\n"
    "client = openai.OpenAI(base_url=BASE, api_key='key', http_client=http)\n"
)
