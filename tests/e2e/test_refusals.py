"""Refusals by rule and in the client's language, through the real OpenAI SDK."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.e2e.conftest import CALLER_KEY, CALM, REFUSAL, Proxies, Proxy, until

BATCH_KEY = "sk-" + "batch-0123456789abcdef"
BLOCKED: Any = [{"role": "user", "content": "blockword"}]
HELLO: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
def proxy(proxies: Proxies) -> Proxy:
    proxies.upstream.text = CALM
    rule = {
        "paths": ["/v1/chat/completions"],
        "keys": [BATCH_KEY],
        "input": {"style": "error", "status": 422},
    }
    return proxies(refusal={"messages": {"de": "Nein.", "pt-BR": "Não."}, "rules": [rule]})


@pytest.fixture
def sdk(proxy: Proxy) -> Iterator[openai.OpenAI]:
    with proxy.openai(max_retries=0) as client:
        yield client


@pytest.mark.parametrize(
    ("accepted", "said"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "Nein."),
        ("en-US,en;q=0.9,de;q=0.3", REFUSAL),
        ("pt-BR", "Não."),
        ("fr", REFUSAL),
        (None, REFUSAL),
    ],
)
class TestLanguage:
    def test_a_blocked_prompt(self, sdk: openai.OpenAI, accepted: str | None, said: str) -> None:
        own = sdk.with_options(default_headers={"accept-language": accepted} if accepted else {})
        answer = own.chat.completions.create(model="m", messages=BLOCKED)
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (
            said,
            "content_filter",
        )
        chunks = list(own.chat.completions.create(model="m", messages=BLOCKED, stream=True))
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == said

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_blocked_answer(
        self, proxies: Proxies, sdk: openai.OpenAI, accepted: str | None, said: str, stream: bool
    ) -> None:
        proxies.upstream.text = "well, blockword"
        own = sdk.with_options(default_headers={"accept-language": accepted} if accepted else {})
        if stream:
            chunks = own.chat.completions.create(model="m", messages=HELLO, stream=True)
            text = "".join(c.choices[0].delta.content or "" for c in chunks)
        else:
            text = str(own.chat.completions.create(model="m", messages=HELLO).choices[0].message.content)
        assert text == said


def test_one_key_gets_errors_for_prompts_and_answers_for_answers(
    proxies: Proxies, proxy: Proxy, sdk: openai.OpenAI
) -> None:
    batch = sdk.with_options(api_key=BATCH_KEY)
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        batch.chat.completions.create(model="m", messages=BLOCKED)
    assert caught.value.code == "content_filter"
    assert sdk.api_key == CALLER_KEY
    assert sdk.chat.completions.create(model="m", messages=BLOCKED).choices[0].message.content == REFUSAL
    proxies.upstream.text = "blockword"
    assert batch.chat.completions.create(model="m", messages=HELLO).choices[0].message.content == REFUSAL
    assert BATCH_KEY not in proxy.process.log


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_azures_client_and_any_spelling_of_the_scheme_are_known_too(proxies: Proxies, scheme: str) -> None:
    rule = {"keys": [BATCH_KEY], "input": {"style": "error", "status": 422}}
    proxy = proxies(refusal={"rules": [rule]})
    azure = openai.AzureOpenAI(
        api_key=BATCH_KEY, base_url=f"{proxy.root}/v1", api_version="2024-10-21", max_retries=0
    )
    with azure, pytest.raises(openai.UnprocessableEntityError):
        azure.chat.completions.create(model="m", messages=BLOCKED)
    headers = {"authorization": f"{scheme} {BATCH_KEY}"}
    answer = proxy.http.post("/v1/chat/completions", json={"messages": BLOCKED}, headers=headers)
    assert answer.status_code == 422


def test_the_words_of_the_policy_come_first(proxies: Proxies, proxy: Proxy) -> None:
    changed = proxies(refusal={"messages": {"de": "Nein."}, "message": "No."}, strict=True)
    file = changed.folder / "policies" / "house" / "policy.md"
    file.write_text(file.read_text().replace("answer: json", "refusal: {default: Call us.}\nanswer: json"))
    changed.process.popen.send_signal(signal.SIGHUP)
    until(lambda: "reloaded" in changed.process.log, "the policy is read again")
    with changed.openai(max_retries=0, default_headers={"accept-language": "de"}) as own:
        assert (
            own.chat.completions.create(model="m", messages=BLOCKED).choices[0].message.content
            == "Call us."
        )
