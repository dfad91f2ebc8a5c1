"""What a caller may ask of the guard, through the real SDK: to be stricter, never to be milder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.conftest import CALM, REFUSAL, Proxies, Proxy, WordJudge, start_proxy
from tests.fakes import FakeUpstream

RESOLVE = "/guardrail/v1/policies/resolve"
OPEN = {"on_error": {"input": "open", "output": "open"}}


@pytest.fixture(scope="module")
def lenient(
    tmp_path_factory: pytest.TempPathFactory, judge: WordJudge, upstream: FakeUpstream
) -> Iterator[Proxy]:
    """Everything fails open; ``quiet`` is a shadow on both stages, ``idle`` is off."""
    folder: Path = tmp_path_factory.mktemp("lenient") / "proxy"
    own = ["house", "quiet"]
    changes = {**OPEN, "policies": {"input": own, "output": own}}
    proxy = start_proxy(folder, judge, upstream, changes, {"quiet": "shadow", "idle": "off"})
    yield proxy
    proxy.stop()


@pytest.fixture
def caller(lenient: Proxy) -> Iterator[openai.OpenAI]:
    with lenient.openai(max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, prompt: str, guardrails: Any = None, **more: Any) -> Any:
    if guardrails is not None:
        more["extra_body"] = {"guardrails": guardrails}
    messages: Any = [{"role": "user", "content": prompt}]
    return client.chat.completions.create(model="m", messages=messages, **more)


def said(answer: Any) -> str:
    return str(answer.choices[0].message.content)


class TestMode:
    def test_a_shadow_that_is_to_act(self, caller: openai.OpenAI, lenient: Proxy):
        raw = caller.chat.completions.with_raw_response.create(
            model="m",
            messages=[{"role": "user", "content": "a blockword"}],
            extra_body={"guardrails": [{"name": "quiet", "mode": "enforce"}]},
        )
        assert raw.headers["x-guardrail-policies"] == "house, quiet"
        [record] = lenient.recorded(raw.headers["x-guardrail-id"], "input")
        assert [f["mode"] for f in record["findings"]] == ["enforce", "enforce"]
        assert raw.parse().choices[0].message.content == REFUSAL

    def test_it_is_for_this_request_alone(self, caller: openai.OpenAI, lenient: Proxy):
        ask(caller, "calm", [{"name": "quiet", "mode": "enforce"}])
        answer = lenient.post({"model": "m", "messages": [{"role": "user", "content": "a blockword"}]})
        assert answer.headers["x-guardrail-policies"] == "house"

    @pytest.mark.parametrize(
        ("entry", "asked"), [({"name": "idle", "mode": "enforce"}, 3), ("idle", 2), ({"name": "extra"}, 3)]
    )
    def test_how_many_policies_are_asked(
        self, caller: openai.OpenAI, lenient: Proxy, entry: Any, asked: int
    ):
        ask(caller, "calm", [entry])
        prompts = [seen for seen in lenient.judge.seen if b"calm" in seen.body and b"fine" not in seen.body]
        assert len(prompts) == asked

    @pytest.mark.parametrize(
        ("entry", "param"),
        [
            ({"name": "house", "mode": "shadow"}, "guardrails[1].mode"),
            ({"name": "house", "mode": "off"}, "guardrails[1].mode"),
            ({"name": "quiet", "mode": "off"}, "guardrails[1].mode"),
            ({"name": "house", "mode": "monitor"}, "guardrails[1].mode"),
            ({"mode": "enforce"}, "guardrails[1].name"),
            ({"name": "house", "secretword": 1}, "guardrails[1]"),
            ({"name": "nobody"}, "guardrails"),
        ],
    )
    def test_what_is_milder_or_not_understood_is_refused(
        self, caller: openai.OpenAI, lenient: Proxy, entry: Any, param: str
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(caller, "hello", ["extra", entry])
        assert caught.value.param == param
        assert "secretword" not in str(caught.value)
        assert (lenient.judge.seen, lenient.upstream.seen) == ([], [])


class TestOnUnavailable:
    def test_an_open_failure_is_closed_for_this_request(self, caller: openai.OpenAI, lenient: Proxy):
        assert said(ask(caller, "outageword")) == CALM
        with pytest.raises(openai.APIStatusError) as caught:
            ask(caller, "outageword", [{"name": "house", "on_unavailable": "closed"}])
        assert (caught.value.status_code, caught.value.code) == (503, "guardrail_unavailable")
        assert said(ask(caller, "outageword")) == CALM

    def test_closed_for_another_policy_does_not_close_this_one(self, caller: openai.OpenAI):
        with pytest.raises(openai.APIStatusError):
            ask(caller, "outageword", [{"name": "extra", "on_unavailable": "closed"}])
        assert said(ask(caller, "outageword", [{"name": "idle", "on_unavailable": "closed"}])) == CALM

    def test_open_where_it_is_open_changes_nothing(self, caller: openai.OpenAI):
        assert said(ask(caller, "outageword", [{"name": "house", "on_unavailable": "open"}])) == CALM

    @pytest.mark.parametrize("rules", ["closed", {"default": "closed", "timeout": "open"}])
    def test_open_where_any_failure_is_closed_is_refused(self, proxies: Proxies, rules: Any):
        closed = proxies(on_error={"input": rules, "output": "open"})
        with closed.openai(max_retries=0) as client, pytest.raises(openai.BadRequestError) as caught:
            ask(client, "hello", [{"name": "house", "on_unavailable": "open"}])
        assert caught.value.param == "guardrails[0].on_unavailable"


class TestHeader:
    @pytest.mark.parametrize("named", ["extra", "extra , ,extra", "extra, house"])
    def test_it_adds_and_is_not_forwarded(self, proxy: Proxy, named: str):
        with proxy.openai(max_retries=0, default_headers={"x-guardrail-add": named}) as wide:
            raw = wide.chat.completions.with_raw_response.create(
                model="m", messages=[{"role": "user", "content": "a blockword"}]
            )
            assert raw.headers["x-guardrail-policies"] == "extra, house"
            ask(wide, "hello")
        [seen] = proxy.upstream.seen
        assert "x-guardrail-add" not in {name.lower() for name in seen.headers}

    def test_on_paths_that_are_passed_it_is_not_forwarded_either(self, proxies: Proxies):
        passing = proxies(paths={"allow": ["/v1/files"]})
        ours = {"X-Guardrail-Add": "extra", "x-guardrail-id": "gr-1"}
        for method, path in (("POST", "/v1/files"), ("GET", "/v1/models")):
            passing.http.request(method, path, headers={**ours, "x-mine": "1"})
        assert [seen.path for seen in passing.upstream.seen] == ["/v1/files", "/v1/models"]
        for seen in passing.upstream.seen:
            names = {name.lower() for name in seen.headers}
            assert "x-mine" in names
            assert [name for name in names if name.startswith("x-guardrail")] == []

    def test_an_id_that_nobody_knows_is_refused(self, client: openai.OpenAI, proxy: Proxy):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, "hello", extra_headers={"x-guardrail-add": "extra, nobody"})
        assert caught.value.param == "x-guardrail-add"
        assert (proxy.judge.seen, proxy.upstream.seen) == ([], [])

    def test_body_and_header_add_up(self, client: openai.OpenAI, proxy: Proxy):
        ask(client, "hello", ["extra"], extra_headers={"x-guardrail-add": "stern"})
        asked = [seen for seen in proxy.judge.seen if b"hello" in seen.body and b"fine" not in seen.body]
        assert len(asked) == 3

    def test_what_an_added_policy_blocks_is_not_asked_beside(self, proxies: Proxies):
        beside = proxies(input_check="beside", policies={"input": ["stern"]})
        with beside.openai(max_retries=0) as client:
            answer = ask(client, "a blockword", extra_headers={"x-guardrail-add": "extra"})
        assert said(answer) == REFUSAL
        assert beside.upstream.seen == []


class TestResolve:
    def applied(self, proxy: Proxy, **query: str) -> dict[str, tuple[Any, ...]]:
        answer = proxy.http.get(RESOLVE, params={"stage": "input", **query})
        assert answer.status_code == 200, answer.text
        return {
            one["id"]: (one["reason"], one["mode"], one["acts"], one["on_unavailable"])
            for one in answer.json()["policies"]
        }

    def test_as_it_is_configured(self, lenient: Proxy):
        assert self.applied(lenient) == {
            "house": ("configured", "enforce", True, "open"),
            "quiet": ("configured", "shadow", False, "open"),
        }

    def test_as_a_request_asks(self, lenient: Proxy):
        asked = {"policies": "quiet,idle", "mode": "enforce", "on_unavailable": "closed"}
        assert self.applied(lenient, **asked) == {
            "house": ("configured", "enforce", True, "open"),
            "quiet": ("configured", "enforce", True, "closed"),
            "idle": ("added", "enforce", True, "closed"),
        }

    @pytest.mark.parametrize(
        ("query", "param"),
        [
            ({"policies": "house", "mode": "shadow"}, "mode"),
            ({"policies": "house", "on_unavailable": "open"}, "on_unavailable"),
            ({"policies": "house", "mode": "monitor"}, "mode"),
            ({"policies": "nobody"}, "policies"),
        ],
    )
    def test_what_a_request_may_not_ask(self, proxy: Proxy, query: dict[str, str], param: str):
        answer = proxy.http.get(RESOLVE, params={"stage": "input", **query})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
