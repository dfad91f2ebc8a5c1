"""Embeddings through the proxy, between the real OpenAI SDK and real fakes: what goes in is judged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.e2e.conftest import MARK, Proxies, Proxy
from tests.fakes import Say, Seen

OPEN = {"on_error": {"input": "open"}}
PATH = "/v1/embeddings"


def vectors(count: int = 1, embedding: str = "[1.0E0, -0.5]") -> bytes:
    entry = '{"object": "embedding", "index": %d, "embedding": %s}'
    entries = ", ".join([entry % (index, embedding) for index in range(count)])
    usage = '"usage": {"prompt_tokens": 3, "total_tokens": 3}'
    return f'{{"object": "list", "data": [{entries}], "model": "fake-model", {usage}}}'.encode()


@pytest.fixture(autouse=True)
def _embedding_upstream(upstream: Any) -> Iterator[None]:
    """The upstream embeds whatever it gets."""
    chatting = upstream.default

    def embed(seen: Seen) -> Say:
        given = seen.json.get("input")
        return Say(vectors(len(given) if isinstance(given, list) else 1))

    upstream.default = embed
    yield
    upstream.default = chatting


def create(sdk: openai.OpenAI, given: Any, **options: Any) -> Any:
    """The raw response of the SDK's own call."""
    return sdk.embeddings.with_raw_response.create(
        model="fake-model", input=given, encoding_format="float", **options
    )


class TestPass:
    @pytest.mark.parametrize("given", ["a cat", ["a cat", "a dog"]], ids=["one", "several"])
    def test_the_sdk_gets_its_vectors(self, proxy: Proxy, client: openai.OpenAI, given: Any) -> None:
        raw = create(client, given)
        found = raw.parse()
        assert [one.embedding for one in found.data] == [[1.0, -0.5]] * len(found.data)
        assert len(found.data) == (1 if isinstance(given, str) else 2)
        assert raw.headers["x-guardrail-decision"] == "pass"
        [record] = proxy.recorded(raw.headers["x-guardrail-id"], "input")
        assert record["dialect"] == "embeddings"
        assert len(proxy.judge.judged) == 1

    def test_the_sdks_own_base64_comes_as_it_is(self, proxy: Proxy, client: openai.OpenAI) -> None:
        proxy.upstream.script.append(Say(vectors(1, '"AACAPwAAAL8="')))
        found = client.embeddings.create(model="m", input="a cat")
        assert proxy.upstream.seen[0].json["encoding_format"] == "base64"
        assert found.data[0].embedding == [1.0, -0.5]

    def test_both_bodies_pass_byte_for_byte(self, proxy: Proxy) -> None:
        raw = b'{"model": "m",  "input" : [ "a c\\u00e1t" ], "dimensions":2 }'
        got = proxy.http.post(PATH, content=raw, headers={"content-type": "application/json"})
        assert proxy.upstream.seen[0].body == raw
        assert got.content == vectors()

    def test_an_error_of_the_upstreams_comes_as_it_is(self, proxy: Proxy, client: openai.OpenAI) -> None:
        proxy.upstream.script.append(Say(b'{"error": {"message": "too long", "code": "x"}}', status=400))
        with pytest.raises(openai.BadRequestError, match="too long") as caught:
            create(client, "a cat")
        assert caught.value.code == "x"

    @pytest.mark.anyio
    async def test_the_asynchronous_sdk(self, proxy: Proxy) -> None:
        async with proxy.async_openai(max_retries=0) as sdk:
            found = await sdk.embeddings.create(model="m", input="a redactword", encoding_format="float")
        assert found.data[0].embedding == [1.0, -0.5]
        assert proxy.upstream.seen[0].json["input"] == f"a {MARK}"


class TestRedact:
    def test_only_the_found_words_change(self, proxy: Proxy) -> None:
        raw = b'{"model":"m", "input" : [ "a cat", "a redactword" ], "dimensions":2 }'
        got = proxy.http.post(PATH, content=raw, headers={"content-type": "application/json"})
        assert proxy.upstream.seen[0].body == raw.replace(b"redactword", MARK.encode())
        assert got.headers["x-guardrail-decision"] == "redact"
        assert got.content == vectors(2)


class TestBlock:
    @pytest.mark.parametrize("style", ["completion", "error"])
    @pytest.mark.parametrize("given", ["a blockword", ["a cat", "a blockword"]], ids=["one", "several"])
    def test_it_is_a_bad_request_whatever_the_style(self, proxies: Proxies, style: str, given: Any) -> None:
        proxy = proxies(refusal={"input": {"style": style}})
        with proxy.openai() as sdk, pytest.raises(openai.BadRequestError) as caught:
            create(sdk, given)
        assert caught.value.code == "content_filter"
        headers = caught.value.response.headers
        assert headers["x-guardrail-decision"] == "block"
        assert headers["x-guardrail-policies"] == "house"
        assert "blockword" not in caught.value.response.text
        assert proxy.upstream.seen == []
        proxy.recorded(headers["x-guardrail-id"], "input")

    def test_an_added_policy_can_block(self, proxy: Proxy, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            create(client, "a blockword", extra_body={"guardrails": ["extra"]})
        named = caught.value.response.headers["x-guardrail-policies"]
        assert set(named.split(", ")) == {"house", "extra"}


class TestAJudgeThatIsDown:
    def test_closes(self, proxy: Proxy, client: openai.OpenAI) -> None:
        with pytest.raises(openai.InternalServerError) as caught:
            create(client, "an outageword")
        assert (caught.value.status_code, caught.value.code) == (503, "guardrail_unavailable")
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert proxy.upstream.seen == []

    def test_opens_where_that_is_configured(self, proxies: Proxies) -> None:
        proxy = proxies(**OPEN)
        with proxy.openai(max_retries=0) as sdk:
            raw = create(sdk, "an outageword")
        assert raw.headers["x-guardrail-degraded"] == "house=unavailable"
        assert raw.parse().data[0].embedding == [1.0, -0.5]


class TestWhatCannotBeRead:
    @pytest.mark.parametrize(
        ("given", "named"),
        [
            ([1, 2, 3], "$.input"),
            ([[1, 2], [3]], "$.input"),
            ([{"text": "a cat"}, {"image": "data:image/png;base64,AA=="}], "$.input[1].image"),
        ],
        ids=["tokens", "lists", "image"],
    )
    def test_follows_its_rule(self, proxies: Proxies, given: Any, named: str) -> None:
        flagging = proxies()
        with flagging.openai(max_retries=0) as sdk:
            raw = create(sdk, given)
        assert raw.headers["x-guardrail-unjudged"] == named
        assert flagging.upstream.seen[0].json["input"] == given
        blocking = proxies(unreadable="block")
        with blocking.openai(max_retries=0) as sdk, pytest.raises(openai.BadRequestError) as caught:
            create(sdk, given)
        assert caught.value.code == "content_filter"
        assert len(flagging.upstream.seen) == 1

    def test_texts_beside_it_are_judged_all_the_same(self, proxy: Proxy, client: openai.OpenAI) -> None:
        given: Any = [{"text": "a blockword"}, {"image": "data:image/png;base64,AA=="}]
        with pytest.raises(openai.BadRequestError):
            create(client, given)
        assert proxy.upstream.seen == []

    def test_a_chat_instead_of_an_input_is_judged(self, proxy: Proxy) -> None:
        messages = [{"role": "user", "content": [{"type": "text", "text": "a blockword"}]}]
        got = proxy.http.post(PATH, json={"model": "m", "messages": messages})
        assert (got.status_code, got.json()["error"]["code"]) == (400, "content_filter")
        messages[0]["content"] = "a redactword"
        assert proxy.http.post(PATH, json={"model": "m", "messages": messages}).status_code == 200
        assert json.loads(proxy.upstream.seen[0].body)["messages"][0]["content"] == f"a {MARK}"

    @pytest.mark.parametrize("body", [{}, {"input": None}, {"input": "a", "messages": []}])
    def test_a_body_without_one_clear_input_is_refused(self, proxy: Proxy, body: dict[str, Any]) -> None:
        got = proxy.http.post(PATH, json={"model": "m", **body})
        assert (got.status_code, got.json()["error"]["param"]) == (400, "input")
        assert proxy.upstream.seen == []


def test_a_stream_is_not_let_through(proxy: Proxy, client: openai.OpenAI) -> None:
    events = {"content-type": "text/event-stream"}
    proxy.upstream.script.append(Say(headers=events, chunks=[b'data: {"choices": []}\n\n']))
    with pytest.raises(openai.InternalServerError) as caught:
        create(client, "a cat")
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_unreadable")


def test_a_blocked_input_stays_blocked_with_a_history(proxies: Proxies) -> None:
    proxy = proxies(history={"max_entries": 100})
    for _ in range(2):
        with proxy.openai(max_retries=0) as sdk, pytest.raises(openai.BadRequestError):
            create(sdk, ["a cat", "a blockword"])
    assert len(proxy.judge.judged) == 1
    with proxy.openai(max_retries=0) as sdk:
        assert len(create(sdk, ["a cat"]).parse().data) == 1


@pytest.mark.parametrize(("rule", "status"), [("flag", 200), ("block", 400)])
def test_other_text_in_an_answer_is_named_or_blocks(proxies: Proxies, rule: str, status: int) -> None:
    proxy = proxies(unreadable=rule)
    proxy.upstream.script.append(Say(vectors()[:-1] + b', "answer": "a blockword"}'))
    answer = proxy.http.post(PATH, json={"model": "m", "input": "a cat"})
    assert (answer.status_code, answer.headers["x-guardrail-decision"]) == (status, rule)
    assert answer.headers["x-guardrail-unjudged"] == "$.answer"
    if rule == "block":
        assert answer.json()["error"]["code"] == "content_filter"
