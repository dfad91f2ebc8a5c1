"""The proxy's own API as a stranger meets it: by its OpenAPI document, and by reading the answers."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from guardrail.backends.policy_files import starter_policies
from guardrail.simulator.judge import classified
from tests.e2e.conftest import CHAT, Proxies, Proxy, ruling, until
from tests.fakes import Say, Seen

POSTS = ["/v1/moderations", "/guardrail/v1/check", "/beta/litellm_basic_guardrail_api"]
GETS = [
    "/guardrail/v1/policies",
    "/guardrail/v1/policies/resolve",
    "/guardrail/v1/openapi.json",
    "/healthz",
    "/readyz",
    "/metrics",
]
CHECK = "/guardrail/v1/check"
SOUND, UNSOUND = GenerationMode.POSITIVE, GenerationMode.NEGATIVE


@pytest.fixture(scope="module")
def document(proxy: Proxy) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{proxy.root}/guardrail/v1/openapi.json")


def answers(document: schemathesis.BaseSchema, method: str, path: str, mode: GenerationMode) -> set[int]:
    """Send requests made from the document; every answer must be one that it allows."""
    seen = set()

    @given(case=document[path][method].as_strategy(generation_mode=mode))
    @settings(max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck))
    def ask(case: schemathesis.Case) -> None:
        seen.add(case.call_and_validate().status_code)

    ask()
    return seen


class TestDocument:
    def test_it_names_every_endpoint(self, proxy: Proxy):
        paths = proxy.http.get("/guardrail/v1/openapi.json").json()["paths"]
        named = {path: [*operations] for path, operations in paths.items()}
        assert named == {path: ["post"] for path in POSTS} | {path: ["get"] for path in GETS}

    @pytest.mark.parametrize("path", POSTS)
    def test_what_it_allows_is_answered(self, document: schemathesis.BaseSchema, path: str):
        assert answers(document, "post", path, SOUND) == {200}

    @pytest.mark.parametrize("path", GETS)
    def test_what_can_be_read_is_what_it_says(self, document: schemathesis.BaseSchema, path: str):
        assert answers(document, "get", path, SOUND) == {200}

    @pytest.mark.parametrize("path", POSTS)
    def test_what_it_does_not_allow_is_refused(self, document: schemathesis.BaseSchema, path: str):
        assert answers(document, "post", path, UNSOUND) == {400}

    def test_a_query_that_it_does_not_allow_is_refused(self, document: schemathesis.BaseSchema):
        assert 400 in answers(document, "get", "/guardrail/v1/policies/resolve", UNSOUND)

    @pytest.mark.parametrize(
        ("path", "allowed"), [*((p, "POST") for p in POSTS), *((p, "GET, HEAD") for p in GETS)]
    )
    def test_another_method_is_not_allowed(self, proxy: Proxy, path: str, allowed: str):
        answer = proxy.http.request("DELETE", path)
        assert answer.status_code == 405
        assert sorted(answer.headers["allow"].split(", ")) == sorted(allowed.split(", "))
        assert answer.json()["error"]["code"] == "method_not_allowed"
        assert answer.headers["x-guardrail-decision"] == "block"

    @pytest.mark.parametrize("path", ["/v1/moderations", CHECK, "/guardrail/v1/policies", "/healthz"])
    def test_a_slash_at_the_end_changes_nothing(self, proxy: Proxy, path: str):
        if path in POSTS:
            body = {"text": "calm"} if path == CHECK else {"input": "calm"}
            answer = proxy.http.post(path + "/", json=body)
        else:
            answer = proxy.http.get(path + "/")
        assert answer.status_code == 200


class TestCheck:
    def test_a_redacted_prompt(self, proxy: Proxy):
        answer = proxy.http.post(CHECK, json={"text": "My redactword is here.", "policies": ["extra"]})
        told = answer.json()
        assert answer.status_code == 200
        assert told["id"] == answer.headers["x-guardrail-id"]
        assert answer.headers["x-guardrail-policies"] == "extra, house"
        assert (told["action"], told["redacted"]) == ("redact", "My [REDACTED:RED] is here.")
        place = {"path": "$.text", "start": 3, "end": 13, "label": "RED", "kind": ""}
        assert [(f["policy"], f["spans"]) for f in told["findings"]] == [
            ("extra", [place]),
            ("house", [place]),
        ]
        assert b"redactword" not in answer.content
        [record] = proxy.recorded(told["id"], "input")
        assert (record["dialect"], record["action"]) == ("check", "redact")

    def test_a_blocked_answer_in_its_conversation(self, proxy: Proxy):
        messages = [
            {"role": "user", "content": "a harmless blockword that was judged before"},
            {"role": "assistant", "content": "the blockword itself"},
        ]
        told = proxy.http.post(CHECK, json={"messages": messages, "stage": "output"}).json()
        assert (told["stage"], told["action"], told["policies"]) == ("output", "block", ["house"])
        assert [text for text in proxy.judge.judged if "harmless" in text] == []

    def test_a_policy_of_a_header_judges_too(self, proxy: Proxy):
        added = {"x-guardrail-add": "extra"}
        told = proxy.http.post(CHECK, json={"text": "a blockword"}, headers=added).json()
        assert told["policies"] == ["extra", "house"]
        added["x-guardrail-add"] = "nobody"
        answer = proxy.http.post(CHECK, json={"text": "a blockword"}, headers=added)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-guardrail-add")

    def test_an_outage_is_an_answer_too(self, proxy: Proxy):
        answer = proxy.http.post(CHECK, json={"text": "outageword"})
        told = answer.json()
        assert (answer.status_code, told["action"], told["unavailable"]) == (200, "block", True)
        assert told["degraded"] == ["house=unavailable"]
        assert [(f["status"], f["error"]) for f in told["findings"]] == [("unavailable", "unavailable")]


class TestLimits:
    @pytest.mark.parametrize("path", POSTS)
    def test_a_body_that_is_too_large(self, proxies: Proxies, path: str):
        small = proxies(limits={"max_body_bytes": 1000})
        answer = small.http.post(path, content=b" " * 1001)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "invalid_request_error")

    @pytest.mark.parametrize("path", POSTS)
    def test_too_many_requests_at_once(self, proxies: Proxies, path: str):
        """One that hangs holds the only place; when its client goes, so does its check."""
        narrow = proxies(limits={"max_concurrent_requests": 1})
        narrow.judge.script.append(Say(delay_s=60))
        body = b'{"text": "one that waits"}'
        head = f"POST {CHECK} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", narrow.port)) as hanging:
            hanging.sendall(head.encode() + body)
            until(lambda: narrow.judge.judged, "the first request is judged")
            answer = narrow.http.post(path, content=b"{}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "guardrail_overloaded")
        until(lambda: narrow.judge.seen[0].cancelled, "its check is cancelled")
        until(lambda: narrow.http.post(path, content=b"{}").status_code == 400, "the place is free")

    def test_the_upstream_is_never_asked(self, proxy: Proxy):
        for path in (*POSTS, *GETS):
            proxy.http.post(path, json={"text": "calm", "input": "calm", "input_type": "request"})
            proxy.http.get(path)
        assert proxy.upstream.seen == []

    def test_moderations_of_the_upstream_can_be_had_instead(self, proxies: Proxies):
        passing = proxies(paths={"allow": ["/v1/moderations"]})
        passing.http.post("/v1/moderations", json={"input": "blockword"})
        assert [seen.path for seen in passing.upstream.seen] == ["/v1/moderations"]
        assert passing.judge.judged == []
        paths = passing.http.get("/guardrail/v1/openapi.json").json()["paths"]
        assert CHECK in paths


class TestPolicies:
    def test_they_are_listed_without_their_text(self, proxy: Proxy):
        answer = proxy.http.get("/guardrail/v1/policies")
        found: dict[str, Any] = {policy["id"]: policy for policy in answer.json()["policies"]}
        assert sorted(found) == ["extra", "house", "stern"]
        assert found["house"]["configured"] == ["input", "output"]
        assert found["extra"]["configured"] == []
        assert found["house"]["labels"]["RED"]["action"] == "redact"
        assert "Answer with one JSON" not in answer.text

    def test_what_is_resolved_is_what_judges(self, proxy: Proxy):
        """A chat request that asks for the same has findings of exactly these policies."""
        query = {"stage": "input", "policies": "extra,stern"}
        told = proxy.http.get("/guardrail/v1/policies/resolve", params=query).json()["policies"]
        assert [(one["id"], one["reason"]) for one in told] == [
            ("house", "configured"),
            ("extra", "added"),
            ("stern", "added"),
        ]
        body = {"messages": [{"role": "user", "content": "hi"}], "guardrails": ["extra", "stern"]}
        decision_id = proxy.http.post(CHAT, json=body).headers["x-guardrail-id"]
        record = proxy.recorded(decision_id, "input", "output")[0]
        judging = {(one["id"], one["revision"]) for one in told if one["applies"]}
        assert {(f["policy"], f["revision"]) for f in record["findings"]} == judging


def clerk(seen: Seen) -> Say:
    """Judge two texts, each under the policy that it breaks."""
    policy, text = (message["content"] for message in seen.json["messages"])
    if "pipe bomb" in classified(text) and "IH3" in policy:
        return Say(ruling(1, "IH3"))
    if "kim.doe" in classified(text) and "PII3" in policy:
        return Say(ruling(1, "PII2", excerpts=["kim.doe@example.com"]))
    return Say(ruling(0, None))


EXAMPLES = re.findall(
    r"```sh\ncurl '?http://localhost:8080(?P<path>[^ '\n]+)'?(?: -d '(?P<body>[^']+)')?\n```\n\n"
    r"```json\n(?P<answer>.+?)\n```",
    (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


class TestPage:
    def test_it_has_an_example_of_each(self):
        assert [path.partition("?")[0] for path, _, _ in EXAMPLES] == [
            "/v1/moderations",
            CHECK,
            "/guardrail/v1/policies/resolve",
            "/beta/litellm_basic_guardrail_api",
        ]

    @pytest.mark.parametrize(("path", "body", "answer"), EXAMPLES, ids=lambda text: str(text)[:20])
    def test_the_answers_are_real_ones(
        self, proxies: Proxies, monkeypatch: pytest.MonkeyPatch, path: str, body: str, answer: str
    ):
        """With the policies of the README, and its usual overlap."""
        policies = {
            "directory": str(starter_policies()),
            "input": ["prompt-injection", "illicit-harm", "pii"],
            "output": ["illicit-harm", "pii"],
        }
        shown = proxies(policies=policies, streaming={"overlap_chars": 120, "window_chars": 400})
        monkeypatch.setattr(shown.judge, "default", clerk)
        got = shown.http.request("POST" if body else "GET", path, content=body).text
        got = re.sub(r"gr-[0-9a-f]{24}|[0-9a-f]{64}", "…", got)
        assert json.loads(got) == json.loads(answer)
