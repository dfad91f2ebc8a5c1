"""A person's name that only Presidio finds: it leaves neither in a body nor in a stream."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MARK, POLICY, Proxies, Proxy, WordJudge, until
from tests.fakes import FakeUpstream, stream
from tests.presidio_pipeline import needs_presidio, write_pipeline

pytestmark = needs_presidio

NAME = (  # 122 characters, of the 128 that are held for it
    "Pablo Diego Jose Francisco de Paula Juan Nepomuceno Maria de los Remedios Cipriano de la Santisima "
    "Trinidad Ruiz y Picasso"
)
BEFORE = "As far as I remember it was the work of "
AFTER = ", and that is all there is to say about it"
EMBEDDED = {"kind": "embedded", "base_url": "", "model": "", "api_key": ""}
DETECTORS = "detectors: {presidio.person: RED, pii.email: RED}\nanswer: json"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_pipeline(tmp_path_factory.mktemp("presidio") / "pipeline", {NAME: "PERSON"})


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One policy, which names a detector of Presidio's beside one of our own."""
    folder = tmp_path_factory.mktemp("named") / "policies"
    (folder / "house").mkdir(parents=True)
    text = POLICY.format(id="house", mode="enforce").replace("answer: json", DETECTORS)
    (folder / "house" / "policy.md").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(params=["embedded", "judge"])
def named(request: pytest.FixtureRequest, proxies: Proxies, pipeline: str, policies: Path) -> Proxy:
    """By rules alone, and beside a judge that finds nothing."""
    classifier: dict[str, Any] = EMBEDDED if request.param == "embedded" else {}
    return proxies(
        presidio={"model": pipeline}, classifier=classifier, policies={"directory": str(policies)}
    )


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def test_in_a_prompt_and_in_an_answer(named: Proxy, upstream: FakeUpstream):
    upstream.text = f"{BEFORE}{NAME}{AFTER}"
    answer = named.post(ask(f"Who is {NAME}, or kim@example.com?"))
    assert upstream.seen[-1].json["messages"][0]["content"] == f"Who is {MARK}, or {MARK}?"
    assert answer.json()["choices"][0]["message"]["content"] == f"{BEFORE}{MARK}{AFTER}"
    assert answer.headers["x-guardrail-decision"] == "redact"


@pytest.mark.parametrize("size", [3, 17])
@pytest.mark.parametrize("further", [0, 4, 8, 12])
def test_in_a_stream_wherever_it_is_cut(named: Proxy, upstream: FakeUpstream, size: int, further: int):
    """A check may come when the name is there but for its last letters."""
    text = f"{AFTER * 4}{BEFORE}{'so ' * further}{NAME}{AFTER * 4}"
    upstream.script.append(
        stream([text[at : at + size] for at in range(0, len(text), size)], pause_s=0.002)
    )
    asked: Any = [{"role": "user", "content": "Hello"}]
    with named.openai(max_retries=0) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(model="m", messages=asked, stream=True)
        left = [part.choices[0].delta.content or "" for part in raw.parse()]
    assert "".join(left) == text.replace(NAME, MARK)
    assert named.recorded(raw.headers["x-guardrail-id"], "input", "output")[1]["checks"] > 1


def test_a_reload_goes_on_with_the_same_pipeline(named: Proxy, upstream: FakeUpstream, pipeline: str):
    """It is not read again: what is gone from the disk is not missed."""
    ruler = Path(pipeline, "entity_ruler")
    ruler.rename(ruler.with_name("gone"))
    try:
        told = named.process.log.count("reloaded ")
        named.process.popen.send_signal(signal.SIGHUP)
        until(lambda: named.process.log.count("reloaded ") > told, "the configuration was read again")
    finally:
        ruler.with_name("gone").rename(ruler)
    assert "not reloaded" not in named.process.log
    named.post(ask(f"Who is {NAME}?"))
    assert upstream.seen[-1].json["messages"][0]["content"] == f"Who is {MARK}?"


def test_beside_a_judge_that_is_down_the_check_fails(
    proxies: Proxies, pipeline: str, policies: Path, judge: WordJudge, upstream: FakeUpstream
):
    """The last resort is asked when the time is up: what is quick is still found, Presidio is left out."""
    proxy = proxies(
        presidio={"model": pipeline},
        policies={"directory": str(policies)},
        on_error={"input": "open", "output": "open"},
    )
    answer = proxy.post(ask(f"outageword: is {NAME} kim@example.com?"))
    assert upstream.seen[-1].json["messages"][0]["content"] == f"outageword: is {NAME} {MARK}?"
    assert "house=unavailable" in answer.headers["x-guardrail-degraded"]
