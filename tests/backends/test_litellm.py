"""The twin of guardrail/backends/litellm.py: LiteLLM itself against servers on loopback.

LiteLLM is an extra of some 170 MB; where it is missing this file is skipped, save for what holds without
it. To run it: ``pip install 'guardrail[litellm]'``.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import subprocess
import sys
import traceback
from typing import Any, get_type_hints

import anyio
import pytest

from guardrail.backends import retry
from guardrail.backends.judge import JudgeSettings
from guardrail.backends.judge_requests import schema
from guardrail.backends.prices import Prices
from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.policy import JUDGE_REFUSAL, Action, LabelRule, Policy, Stage
from guardrail.core.verdict import Usage
from guardrail.errors import (
    ClassifierError,
    ClassifierRateLimited,
    ClassifierRejected,
    ClassifierTimeout,
    ClassifierUnavailable,
    FailureCode,
    MalformedVerdict,
    UpstreamLost,
)
from guardrail.ports import Classifier
from guardrail.testing import drive_asgi
from guardrail.wire.chat import ChatDialect
from guardrail.wire.chat_stream import ChatStream
from guardrail.wire.sse import SseDecoder
from tests.fakes import FakeJudge, FakeServer, FakeUpstream, Say, chunk, completion, verdict

HERE = importlib.util.find_spec("litellm") is not None
needs_litellm = pytest.mark.skipif(not HERE, reason="the extra guardrail[litellm] is not installed")
pytestmark = [
    pytest.mark.anyio,
    # Pydantic about a type of LiteLLM's own, whenever LiteLLM first builds it.
    pytest.mark.filterwarnings("ignore:.*ReadOnly.*:UserWarning"),
]

BOUND_S = 30.0
KEY = "sk-" + "provider-0123456789abcdef"
BODY = "The policy.\r\nSecond line, caf\u00e9.\n"
LABELS = {"OK": LabelRule("OK", violation=False), "BAD": LabelRule("BAD", True, Action.BLOCK)}
POLICY = Policy("p", BODY, LABELS)
TEXT = "what the user wrote"
ASKED: dict[str, Any] = {"model": "openai/fake-model", "messages": [{"role": "user", "content": TEXT}]}


def test_without_litellm_the_message_names_the_remedy():
    """In a process of its own, where the import is made to fail whether it is installed or not."""
    code = (
        "import sys; sys.modules['litellm'] = None\n"
        "from guardrail.errors import ConfigError\n"
        "try:\n    import guardrail.backends.litellm\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'guardrail[litellm]'" in told.stdout, told.stderr


def subject_of(text: str) -> Subject:
    return Subject(Stage.INPUT, (), (Turn("user", (Segment(text, ("messages", 0, "content")),)),))


def upstream_of(server: FakeServer, **arguments: Any) -> Any:
    from guardrail.backends.litellm import LiteLLMUpstream

    return LiteLLMUpstream(KEY, server.url, arguments)


def classifier_of(server: FakeServer | str, **settings: Any) -> Any:
    from guardrail.backends.litellm import LiteLLMClassifier

    url = server if isinstance(server, str) else server.url
    model = settings.pop("model", "openai/judge-model")
    return LiteLLMClassifier(JudgeSettings(url, model, KEY, **settings))


async def ask(app: Any, body: dict[str, Any], **more: Any) -> list[Any]:
    with anyio.fail_after(BOUND_S):
        return await drive_asgi(app, body=json.dumps(body).encode(), **more)


def bodies(messages: list[Any]) -> bytes:
    return b"".join(message.get("body", b"") for message in messages)


@needs_litellm
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

    @pytest.mark.parametrize(
        "name",
        [
            "api_base",
            "base_url",
            "api_key",
            "custom_llm_provider",
            "extra_body",
            "extra_headers",
            "headers",
            "fallbacks",
            "context_window_fallback_dict",
            "model_list",
            "deployment_id",
            "client",
            "organization",
            "api_version",
            "timeout",
            "num_retries",
            "mock_response",
            "mock_tool_calls",
            "prompt_id",
            "prompt_variables",
            "roles",
            "initial_prompt_value",
            "final_prompt_value",
            "logger_fn",
            "metadata",
            "litellm_metadata",
            "provider_specific_header",
            "unknown",
        ],
    )
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
            from guardrail.backends.litellm import LiteLLMUpstream

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
        [("GET", "/v1/models"), ("POST", "/v1/embeddings"), ("GET", "/v1/chat/completions"), ("HEAD", "/")],
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


TOO_LONG = json.dumps(
    {"error": {"message": "This model's maximum context length is 8192 tokens."}}
).encode()
ROWS = [
    (Say(completion("")), MalformedVerdict, FailureCode.MALFORMED, 2),
    (Say(completion("", finish_reason="length")), MalformedVerdict, FailureCode.TRUNCATED, 2),
    (Say(b'{"choices": []}'), MalformedVerdict, FailureCode.MALFORMED, 2),
    (Say(b'{"error": {"message": "bad"}}', 400), ClassifierRejected, FailureCode.AUTH, 1),
    (
        Say(TOO_LONG, 400),
        ClassifierRejected,
        FailureCode.TOO_LONG,
        1,
    ),
    (Say(b"{}", 401), ClassifierRejected, FailureCode.AUTH, 1),
    (Say(b"{}", 403), ClassifierRejected, FailureCode.AUTH, 1),
    (Say(b"{}", 404), ClassifierRejected, FailureCode.AUTH, 1),
    (Say(b"{}", 408), ClassifierTimeout, FailureCode.TIMEOUT, 4),
    (Say(b"{}", 409), ClassifierUnavailable, FailureCode.UNAVAILABLE, 4),
    (Say(b"{}", 413), ClassifierRejected, FailureCode.TOO_LONG, 1),
    (Say(b"{}", 429), ClassifierRateLimited, FailureCode.RATE_LIMITED, 4),
    (Say(b"{}", 500), ClassifierUnavailable, FailureCode.UNAVAILABLE, 4),
    (Say(b"{}", 503), ClassifierUnavailable, FailureCode.UNAVAILABLE, 4),
    (Say(b"<html>"), ClassifierUnavailable, FailureCode.UNAVAILABLE, 4),
    (Say(drop=True), ClassifierUnavailable, FailureCode.UNAVAILABLE, 2),  # it may be this text's fault
    (Say(chunks=[b'{"a'], drop=True), ClassifierUnavailable, FailureCode.UNAVAILABLE, 2),
]


@needs_litellm
class TestClassifier:
    def test_it_has_the_shape_of_its_port(self):
        from guardrail.backends.litellm import LiteLLMClassifier

        for name in ("identity", "classify"):
            own, wanted = getattr(LiteLLMClassifier, name), getattr(Classifier, name)
            assert inspect.iscoroutinefunction(own) is inspect.iscoroutinefunction(wanted)
            assert get_type_hints(own) == get_type_hints(wanted)

    async def test_it_asks_as_the_judge_does(self):
        with FakeJudge({TEXT: verdict(1, "BAD", excerpts=["user"])}) as server:
            classifier = classifier_of(server, max_tokens=300)
            found = await classifier.classify(POLICY, subject_of(TEXT))
        assert (found.label, found.excerpts, found.judge) == ("BAD", ("user",), "openai/judge-model")
        assert (found.usage, found.effort) == (Usage(700, 9, None), POLICY.reasoning_effort)
        (seen,) = server.seen
        system, user = seen.json["messages"]
        assert system == {"role": "system", "content": BODY}
        assert (user["role"], user["content"].count(TEXT)) == ("user", 1)
        assert seen.body.count(TEXT.encode()) == 1
        assert seen.json["max_tokens"] == 300
        assert seen.headers["Authorization"] == f"Bearer {KEY}"
        assert classifier.identity(POLICY) == "litellm:openai/judge-model:low"

    async def test_each_call_has_a_boundary_of_its_own(self):
        with FakeJudge() as server:
            for _ in range(2):
                await classifier_of(server).classify(POLICY, subject_of(TEXT))
        users = [seen.json["messages"][1]["content"] for seen in server.seen]
        assert users[0] != users[1]

    async def test_a_lone_surrogate_is_judged(self):
        with FakeJudge({"\ufffd": verdict(1, "BAD")}) as server:
            assert (await classifier_of(server).classify(POLICY, subject_of("a\ud800b"))).label == "BAD"

    async def test_cached_tokens_are_told_where_the_provider_tells_them(self):
        body = json.loads(verdict(0, None))
        body["usage"]["prompt_tokens_details"] = {"cached_tokens": 640}
        with FakeServer(Say(json.dumps(body).encode())) as server:
            found = await classifier_of(server).classify(POLICY, subject_of(TEXT))
        assert found.usage == Usage(700, 9, 640)

    def test_an_answer_without_token_counts(self):
        from guardrail.backends.litellm import _usage

        assert _usage(object()) is None

    async def test_the_judges_refusal_is_a_violation(self):
        with FakeServer(Say(completion("I'm sorry, but I can't help with that."))) as server:
            found = await classifier_of(server).classify(POLICY, subject_of(TEXT))
        assert found.label == JUDGE_REFUSAL

    @pytest.mark.parametrize(("say", "wanted", "code", "calls"), ROWS)
    async def test_what_goes_wrong_is_translated(
        self,
        say: Say,
        wanted: type[ClassifierError],
        code: FailureCode,
        calls: int,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ):
        monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.001)
        with FakeServer(say) as server, caplog.at_level("INFO"), pytest.raises(ClassifierError) as caught:
            with anyio.fail_after(BOUND_S):
                await classifier_of(server).classify(POLICY, subject_of(TEXT))
        assert (type(caught.value), caught.value.code) == (wanted, code)
        told = "".join(traceback.format_exception(caught.value)) + caplog.text
        assert TEXT not in told
        assert KEY not in told
        assert len(server.seen) == calls

    async def test_what_was_never_sent_is_not_lost(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.001)
        lost = []

        def noted(error: Exception) -> bool:
            lost.append(was_lost(error))
            return lost[-1]

        from guardrail.backends.litellm import was_lost

        monkeypatch.setattr("guardrail.backends.litellm.was_lost", noted)
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.listeners[0].extra(anyio.abc.SocketAttribute.local_port)
        with pytest.raises(ClassifierUnavailable):
            await classifier_of(f"http://127.0.0.1:{port}/v1").classify(POLICY, subject_of(TEXT))
        assert lost == [False] * 4

    async def test_json_is_enforced_when_asked_and_the_second_reading_does_without(self):
        with FakeServer(Say(completion("perhaps"))) as server:
            classifier = classifier_of(server, json_mode=True)
            with pytest.raises(MalformedVerdict):
                await classifier.classify(POLICY, subject_of(TEXT))
        first, second = [seen.json for seen in server.seen]
        assert first["response_format"]["json_schema"]["schema"] == schema(POLICY)
        assert "response_format" not in second
        ends = [body["messages"][1]["content"] for body in (first, second)]
        assert ends[1] == ends[0] + retry.AGAIN[POLICY.answer]
        assert classifier.identity(POLICY) == "litellm:openai/judge-model:low:json"

    async def test_the_cost_is_that_of_the_configured_prices_or_of_litellms_list(self):
        body = json.loads(verdict(0, None)) | {"service_tier": "on_demand"}
        costs = []
        with FakeServer(Say(json.dumps(body).encode())) as server:
            for model, prices in (
                ("openai/unknown", None),
                ("groq/openai/gpt-oss-safeguard-20b", None),
                ("groq/openai/gpt-oss-safeguard-20b", Prices(1.0, 1.0)),
            ):
                classifier = classifier_of(server, model=model, prices=prices)
                costs.append((await classifier.classify(POLICY, subject_of(TEXT))).usage.cost_usd)
        assert costs == [None, pytest.approx(700 * 0.075e-6 + 9 * 0.30e-6), pytest.approx(709e-6)]

    async def test_no_more_calls_than_allowed(self):
        with FakeServer(Say(b"{}", 503)) as server, pytest.raises(ClassifierUnavailable):
            await classifier_of(server, max_tries=1).classify(POLICY, subject_of(TEXT))
        assert len(server.seen) == 1

    def test_it_tells_its_name_and_window(self):
        classifier = classifier_of("http://127.0.0.1:9/v1", context_tokens=5000)
        assert (classifier.name, classifier.context_tokens) == ("openai/judge-model", 5000)

    async def test_after_length_the_budget_is_doubled_once(self):
        say = Say(completion("", finish_reason="length"))
        with FakeServer(say) as server, pytest.raises(MalformedVerdict):
            await classifier_of(server, max_tokens=300).classify(POLICY, subject_of(TEXT))
        assert [seen.json["max_tokens"] for seen in server.seen] == [300, 600]

    async def test_the_deadline_of_the_caller_ends_it(self):
        with FakeServer(Say(verdict(0, None), delay_s=60)) as server:
            with anyio.move_on_after(0.5) as scope:
                await classifier_of(server).classify(POLICY, subject_of(TEXT))
            assert scope.cancelled_caught
            with anyio.fail_after(BOUND_S):
                while not server.seen[0].cancelled:  # noqa: ASYNC110 - the server runs in another thread
                    await anyio.sleep(0.01)


# What an exception of LiteLLM is to us; one that is not listed fails the test.
REJECTED, UNAVAILABLE = (
    (ClassifierRejected, FailureCode.AUTH),
    (ClassifierUnavailable, FailureCode.UNAVAILABLE),
)
INTERNAL = (ClassifierError, FailureCode.INTERNAL)
TRANSLATED: dict[str, tuple[type[ClassifierError], FailureCode]] = {
    "APIConnectionError": UNAVAILABLE,
    "APIError": UNAVAILABLE,
    "APIResponseValidationError": UNAVAILABLE,
    "AuthenticationError": REJECTED,
    "BadGatewayError": UNAVAILABLE,
    "BadRequestError": REJECTED,
    "BlockedPiiEntityError": REJECTED,  # these four are raised by LiteLLM's own guardrails
    "GuardrailRaisedException": REJECTED,
    "ModifyResponseException": INTERNAL,
    "SensitiveDataRouteException": INTERNAL,
    "BudgetExceededError": REJECTED,
    "ContentPolicyViolationError": REJECTED,
    "ContextWindowExceededError": (ClassifierRejected, FailureCode.TOO_LONG),
    "ImageFetchError": REJECTED,
    "InternalServerError": UNAVAILABLE,
    "InvalidRequestError": REJECTED,
    "JSONSchemaValidationError": UNAVAILABLE,
    "LiteLLMUnknownProvider": REJECTED,
    "MidStreamFallbackError": UNAVAILABLE,
    "MockException": UNAVAILABLE,
    "ModelNotMappedError": INTERNAL,  # raised where prices are looked up
    "NotFoundError": REJECTED,
    "OpenAIError": INTERNAL,  # a wrapper that LiteLLM does not raise itself
    "PaymentRequiredError": REJECTED,
    "PermissionDeniedError": REJECTED,
    "RateLimitError": (ClassifierRateLimited, FailureCode.RATE_LIMITED),
    "RejectedRequestError": REJECTED,
    "ServiceUnavailableError": UNAVAILABLE,
    "Timeout": (ClassifierTimeout, FailureCode.TIMEOUT),
    "UnprocessableEntityError": REJECTED,
    "UnsupportedParamsError": REJECTED,
    "VectorStoreSearchError": REJECTED,
}


def _made(cls: type[Exception]) -> Exception:
    """An instance of it, with its arguments filled by their names."""
    import httpx

    status = {"PermissionDeniedError": 403, "UnprocessableEntityError": 422}.get(cls.__name__, 500)
    known: dict[str, Any] = {
        "status_code": 500,
        "response": httpx.Response(status, request=httpx.Request("POST", "http://127.0.0.1/")),
        "request": httpx.Request("POST", "http://127.0.0.1/"),
        "message": f"about {TEXT}",
        "request_data": {},
        "failures": [],
        "current_cost": 2.0,
        "max_budget": 1.0,
    }
    needed = {
        name: known.get(name, "x")
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if name != "self"
        and parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    return cls(**needed)


@needs_litellm
class TestEveryExceptionOfLiteLLM:
    def test_is_translated_as_listed(self):
        import litellm

        from guardrail.backends.litellm import translated

        found = {}
        for name, cls in inspect.getmembers(litellm.exceptions, inspect.isclass):
            if issubclass(cls, Exception):
                error = translated(_made(cls))
                found[name] = (type(error), error.code)
                assert TEXT not in str(error)
        unlisted = {name: row for name, row in found.items() if name not in TRANSLATED}
        assert unlisted == {}
        assert found == {name: TRANSLATED[name] for name in found}
        assert len(found) > 25

    @pytest.mark.parametrize("status", ["413", "400", "409", "503", "odd", 413, 498, None])
    def test_a_status_may_be_a_number_or_a_text(self, status: Any):
        from guardrail.backends.litellm import translated

        error = ValueError("x")
        error.status_code = status  # type: ignore[attr-defined]
        wanted = {
            "413": FailureCode.TOO_LONG,
            "400": FailureCode.AUTH,
            "None": FailureCode.INTERNAL,
        }.get(str(status), FailureCode.UNAVAILABLE)
        assert translated(error).code is wanted
