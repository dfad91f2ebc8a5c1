"""The twin of guardrail/backends/litellm.py: LiteLLM itself against servers on loopback.

LiteLLM is an extra of some 170 MB; where it is missing this file is skipped, save for what holds without
it. To run it: ``pip install 'guardrail[litellm]'``.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
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
)
from guardrail.ports import Classifier
from tests.fakes import FakeJudge, FakeServer, Say, completion, verdict

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


def subject_of(text: str) -> Subject:
    return Subject(Stage.INPUT, (), (Turn("user", (Segment(text, ("messages", 0, "content")),)),))


def classifier_of(server: FakeServer | str, **settings: Any) -> Any:
    from guardrail.backends.litellm import LiteLLMClassifier

    url = server if isinstance(server, str) else server.url
    model = settings.pop("model", "openai/judge-model")
    return LiteLLMClassifier(JudgeSettings(url, model, KEY, **settings))


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
