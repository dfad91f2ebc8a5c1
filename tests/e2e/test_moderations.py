"""``client.moderations.create`` of the real OpenAI SDK, answered from our policies by a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from guardrail.backends.policy_files import starter_policies
from tests.e2e.conftest import Proxies, Proxy, ruling, start_proxy
from tests.fakes import Say, Seen

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}


@pytest.fixture
def client(proxy: Proxy) -> Iterator[openai.OpenAI]:
    with proxy.openai() as sdk:  # with its usual retries
        yield sdk


def categories(result: Any) -> dict[str, bool]:
    return {name: value for name, value in result.categories.to_dict().items() if value is not None}


class TestTexts:
    @pytest.mark.parametrize("word", ["flagword", "redactword", "blockword"])
    def test_a_violation_is_flagged_whatever_its_action(self, client: openai.OpenAI, word: str):
        [result] = client.moderations.create(input=f"a {word}").results
        assert result.flagged is True
        assert categories(result) == {"house": True}
        assert result.category_scores.to_dict() == {"house": 1.0}
        assert result.category_applied_input_types.to_dict() == {"house": ["text"]}

    def test_calm_is_not_flagged(self, client: openai.OpenAI):
        response = client.moderations.create(input="calm", model="omni-moderation-latest")
        assert response.results[0].flagged is False
        assert response.results[0].category_scores.to_dict() == {"house": 0.0}
        assert response.id.startswith("gr-")

    def test_each_text_has_its_own_result_in_order(self, client: openai.OpenAI, proxy: Proxy):
        texts = [f"calm {index}" if index % 3 else f"blockword {index}" for index in range(20)]
        raw = client.moderations.with_raw_response.create(input=texts)
        assert [result.flagged for result in raw.parse().results] == [i % 3 == 0 for i in range(20)]
        decision_id = raw.headers["x-guardrail-id"]
        records = proxy.recorded(decision_id, *["input"] * 20)
        assert {record["dialect"] for record in records} == {"moderations"}
        assert sorted(proxy.judge.judged) == sorted(texts)

    def test_a_policy_more(self, client: openai.OpenAI):
        extra = {"guardrails": ["extra"]}
        [result] = client.moderations.create(input="a blockword", extra_body=extra).results
        assert categories(result) == {"house": True, "extra": True}

    def test_a_policy_more_by_header(self, client: openai.OpenAI, proxy: Proxy):
        added = {"x-guardrail-add": "extra"}
        [result] = client.moderations.create(input="a blockword", extra_headers=added).results
        assert categories(result) == {"house": True, "extra": True}
        with pytest.raises(openai.BadRequestError) as caught:
            client.moderations.create(input="hello", extra_headers={"x-guardrail-add": "extra, nobody"})
        assert caught.value.param == "x-guardrail-add"
        assert proxy.judge.judged == ["a blockword"] * 2


class TestParts:
    def test_an_image_is_said_to_be_unread(self, client: openai.OpenAI):
        text = {"type": "text", "text": "calm"}
        raw = client.moderations.with_raw_response.create(input=[text, IMAGE])
        [result] = raw.parse().results
        assert raw.headers["x-guardrail-unjudged"] == "$.input[1]"
        assert result.flagged is True
        assert categories(result) == {"house": False, "guardrail/unreadable": True}
        types = result.category_applied_input_types.to_dict()
        assert types == {"house": ["text"], "guardrail/unreadable": ["image"]}

    def test_with_the_rule_pass_only_the_header_says_so(self, proxies: Proxies):
        with proxies(unreadable="pass").openai() as client:
            raw = client.moderations.with_raw_response.create(input=[IMAGE])
        [result] = raw.parse().results
        assert raw.headers["x-guardrail-unjudged"] == "$.input[0]"
        assert (result.flagged, categories(result)) == (False, {"house": False})
        assert result.category_applied_input_types.to_dict() == {"house": []}


class TestOutage:
    @pytest.mark.parametrize("mode", ["closed", "open"])
    def test_what_could_not_be_judged_is_an_error(self, proxies: Proxies, mode: str):
        """In both modes, once, and although the other text was judged."""
        failing = proxies(on_error={"input": mode})
        with failing.openai() as client, pytest.raises(openai.InternalServerError) as caught:
            client.moderations.create(input=["a blockword", "an outageword"])
        error = caught.value
        assert (error.status_code, error.code) == (503, "guardrail_unavailable")
        assert error.response.headers["x-should-retry"] == "false"
        assert int(error.response.headers["retry-after"]) > 0
        assert error.response.headers["x-guardrail-decision"] == "block"
        assert error.response.headers["x-guardrail-degraded"] == "house=unavailable"
        records = failing.recorded(error.response.headers["x-guardrail-id"], "input", "input")
        assert {record["degraded"] for record in records} == {True, False}

    def test_a_shadow_neither_speaks_nor_fails(self, proxies: Proxies, tmp_path: Path):
        shadowed = start_proxy(
            tmp_path / "shadowed",
            proxies.judge,
            proxies.upstream,
            {"policies": {"input": ["watch"], "output": []}},
            {"watch": "shadow"},
        )
        try:
            with shadowed.openai() as client:
                for text in ("a blockword", "an outageword"):
                    [result] = client.moderations.create(input=text).results
                    assert (result.flagged, categories(result)) == (False, {})
            assert [text for text in shadowed.judge.judged if "blockword" in text] == ["a blockword"]
        finally:
            shadowed.stop()


class TestCategories:
    def test_of_openai_come_with_the_starter_policies(
        self, proxies: Proxies, monkeypatch: pytest.MonkeyPatch
    ):
        """What a policy covers stands under OpenAI's names too, where typed code looks for it."""
        names = ["hate-harassment", "illicit-harm", "self-harm", "sexual-content", "violence"]
        policies = {"directory": str(starter_policies()), "input": names, "output": []}
        proxy = proxies(policies=policies)
        labels = {"hate": "HH3", "harassment": "HH2", "illicit": "IH3", "self_harm": "SH2"}
        labels |= {"sexual": "SX2", "violence": "VI3"}
        with proxy.openai() as client:
            for category, label in labels.items():
                monkeypatch.setattr(proxy.judge, "default", OneLabel(label))
                [result] = client.moderations.create(input=f"a text of {label}").results
                assert getattr(result.categories, category) is True, category
                expected = {category.replace("_", "-")} | ({"harassment"} if label == "HH3" else set())
                true = {name for name, value in categories(result).items() if value} - set(names)
                assert true == expected - set(names)
                assert "sexual/minors" not in categories(result)


@dataclass
class OneLabel:
    """A judge that finds this label wherever a policy has it."""

    label: str

    def __call__(self, seen: Seen) -> Say:
        policy = seen.json["messages"][0]["content"]
        return Say(ruling(1, self.label) if self.label in policy else ruling(0, None))


def test_a_refused_request_names_its_parameter(client: openai.OpenAI, proxy: Proxy):
    for body in ({"input": []}, {"input": [3]}, {"input": ["a", IMAGE]}, {"input": ["a"] * 129}, {}):
        answer = proxy.http.post("/v1/moderations", content=json.dumps(body))
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input"), body
    with pytest.raises(openai.BadRequestError) as caught:
        client.moderations.create(input="x", extra_body={"guardrails": ["nobody"]})
    assert caught.value.param == "guardrails"
    assert proxy.judge.judged == []
