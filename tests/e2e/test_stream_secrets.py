"""Long secrets in streams: they grow piece by piece, and no piece of them leaves."""

from __future__ import annotations

import base64
import json
import random
import string
from typing import Any

import pytest

from guardrail.backends.policy_files import starter_policies
from tests.e2e.conftest import Proxies, Proxy
from tests.fakes import FakeUpstream, stream

PART = 14  # a piece of a secret this long would say something

RANDOM = random.Random(7)
ALPHABET = string.ascii_letters + string.digits


def letters(count: int) -> str:
    return "".join(RANDOM.choices(ALPHABET, k=count))


def web_token() -> str:
    head = (
        base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "typ": "JWT"}).encode()).decode().rstrip("=")
    )
    return f"{head}.{letters(900)}.{letters(342)}"


def private_key() -> str:
    lines = "\n".join(letters(64) for _ in range(30))
    return f"-----BEGIN RSA PRIVATE KEY-----\n{lines}\n-----END RSA PRIVATE KEY-----"


SECRETS = {
    "e-mail": f"{letters(40).lower()}@{letters(30).lower()}.example.com",
    "web token": web_token(),
    "private key": private_key(),
    "provider key": "ghp_" + letters(36),
    "connection": f"postgres://admin:{letters(24)}@{'db.' * 9}internal.example.com:5432",
    "IBAN": "DE89 3704 0044 0532 0130 00",
}


@pytest.fixture
def proxy(proxies: Proxies) -> Proxy:
    policies = {"directory": starter_policies(), "input": ["pii"], "output": ["pii", "secrets"]}
    return proxies(
        classifier={"kind": "embedded", "base_url": "", "model": "", "api_key": ""},
        policies={**policies, "directory": str(starter_policies())},
    )


@pytest.mark.parametrize("size", [7, 33])
@pytest.mark.parametrize("kind", list(SECRETS))
def test_no_part_of_it_leaves(proxy: Proxy, upstream: FakeUpstream, kind: str, size: int):
    secret = SECRETS[kind]
    before, after = "Certainly, here it is, as you asked for it: ", " and that is all there is to say. "
    text = before + secret + after * 60
    upstream.script.append(
        stream([text[at : at + size] for at in range(0, len(text), size)], pause_s=0.002)
    )
    asked: list[Any] = [{"role": "user", "content": "Hello"}]
    left = ""
    with proxy.openai(max_retries=0) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(model="m", messages=asked, stream=True)
        for part in raw.parse():
            left += part.choices[0].delta.content or ""
    assert proxy.recorded(raw.headers["x-guardrail-id"], "input", "output")[1]["checks"] > 2
    assert left.startswith(before)
    assert left.endswith(after * 60)
    assert "[REDACTED:" in left
    plain = left.replace(before, "").replace(after, "")
    parts = {secret[at : at + PART] for at in range(len(secret) - PART + 1)}
    assert not [part for part in parts if part in plain]
