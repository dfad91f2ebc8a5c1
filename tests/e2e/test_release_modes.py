"""What leaves when: the release modes of a real proxy, its metrics and its comments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from guardrail.simulator.judge import classified
from tests.e2e.conftest import CHAT, REFUSAL, WORDS, Proxies, Proxy, WordJudge, ruling, until
from tests.fakes import FakeUpstream, Say, Seen, stream

SENTENCE = "One calm sentence after the other, of forty-five. "
BOTH, CALM = Say(ruling(1, "BLK")), Say(ruling(0, None))


def ask(proxy: Proxy, prompt: str = "Hello") -> Iterator[str]:
    """The raw stream, read by read."""
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": prompt}]}
    with proxy.http.stream("POST", CHAT, json=body) as answer:
        assert answer.status_code == 200
        yield answer.headers["x-guardrail-id"]
        yield from answer.iter_text()


def read(raw: str) -> tuple[str, list[str]]:
    """The text of a raw stream, and its finish reasons, with ``[DONE]`` for the proper end."""
    text, ends = "", []
    for line in raw.splitlines():
        if not line.startswith("data: "):
            continue
        if line == "data: [DONE]":
            ends.append("[DONE]")
            continue
        for choice in json.loads(line[6:]).get("choices", []):
            text += choice["delta"].get("content") or ""
            ends += [choice["finish_reason"]] if choice["finish_reason"] else []
    return text, ends


def metric(proxy: Proxy, name: str) -> float:
    page = proxy.http.get("/metrics").text
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(f"{name} "))


def held(proxy: Proxy, decision_id: str) -> dict[str, Any]:
    records = until(
        lambda: [r for r in proxy.records(decision_id) if r["stage"] == "output"], "the stream is recorded"
    )
    found: dict[str, Any] = records[0]["held"]
    return found


@pytest.fixture(autouse=True)
def _as_before(judge: WordJudge) -> Iterator[None]:
    default = judge.default
    yield
    judge.words, judge.default = dict(WORDS), default


LIVE = {"streaming": {"release": "live"}}


@pytest.fixture
def live(proxies: Proxies) -> Proxy:
    return proxies(**LIVE, policies={"input": ["house"], "output": ["stern"]})


class TestLive:
    def test_text_leaves_before_it_was_judged_and_its_end_after(self, live: Proxy, upstream: FakeUpstream):
        live.judge.words["lateword"] = Say(CALM.body, delay_s=0.8)
        words = ["lateword "] + [SENTENCE] * 3
        upstream.script.append(stream(words))
        reads = ask(live)
        decision_id = next(reads)
        early = ""
        while SENTENCE * 3 not in read(early)[0]:
            early += next(reads)
        assert read(early)[1] == [], "all text is out, and no end is in sight"
        rest = "".join(reads)
        assert read(early + rest) == ("".join(words), ["stop", "[DONE]"])
        assert live.judge.judged[1].startswith("lateword ")
        assert held(live, decision_id)["unjudged_released_chars"] > 0

    def test_a_violation_ends_the_stream(self, live: Proxy, upstream: FakeUpstream):
        upstream.script.append(stream(["blockword "] + [SENTENCE] * 3, pause_s=0.3))
        reads = ask(live)
        decision_id = next(reads)
        text, ends = read("".join(reads))
        assert text.startswith("blockword ")
        assert ends == ["content_filter", "[DONE]"]
        assert held(live, decision_id)["unjudged_released_chars"] >= len("blockword ")

    def test_the_metric_counts_what_left_unjudged(self, live: Proxy, upstream: FakeUpstream):
        name = "guardrail_stream_unjudged_released_chars_total"
        before = metric(live, name)
        upstream.script.append(stream([SENTENCE] * 4))
        reads = ask(live)
        decision_id = next(reads)
        assert read("".join(reads))[0] == SENTENCE * 4
        counted = held(live, decision_id)["unjudged_released_chars"]
        assert 0 < counted <= len(SENTENCE * 4)
        assert metric(live, name) - before == counted


@pytest.mark.parametrize("release", ["window", "whole"])
class TestHeld:
    def test_nothing_leaves_unjudged(self, proxies: Proxies, upstream: FakeUpstream, release: str):
        proxy = proxies(streaming={"release": release})
        upstream.script.append(stream([SENTENCE] * 8, pause_s=0.05))
        reads = ask(proxy)
        decision_id = next(reads)
        shown = ""
        for part in reads:
            shown += part
            judged = "".join(proxy.judge.judged)
            for sentence in read(shown)[0].split(". "):
                assert sentence in judged or not sentence
        assert read(shown) == (SENTENCE * 8, ["stop", "[DONE]"])
        told = held(proxy, decision_id)
        assert told["unjudged_released_chars"] == 0
        assert metric(proxy, "guardrail_stream_unjudged_released_chars_total") == 0
        assert metric(proxy, "guardrail_stream_checks_count") >= 1
        assert (told["first_s"] > 0.3) == (release == "whole")


class TestFinalCheck:
    @pytest.mark.parametrize("final", [False, True])
    def test_what_only_the_whole_answer_shows(
        self, proxies: Proxies, judge: WordJudge, upstream: FakeUpstream, final: bool
    ):
        proxy = proxies(streaming={"final_check": final})
        words = ["firsthalf "] + [SENTENCE] * 6 + ["secondhalf"]
        upstream.script.append(stream(words, pause_s=0.03))

        def both(seen: Seen) -> Say:
            text = classified(seen.json["messages"][-1]["content"])
            return BOTH if "firsthalf" in text and "secondhalf" in text else CALM

        judge.default = both
        reads = ask(proxy)
        next(reads)
        text, ends = read("".join(reads))
        if final:
            assert ends == ["content_filter", "[DONE]"]
            assert text.startswith("firsthalf ")
            assert "secondhalf" not in text
        else:
            assert (text, ends) == ("".join(words), ["stop", "[DONE]"])


class TestKeepAlive:
    def test_a_stream_that_is_held_says_so(self, proxies: Proxies, upstream: FakeUpstream):
        proxy = proxies(streaming={"keep_alive_s": 0.1, "release": "whole"})
        upstream.script.append(stream([SENTENCE] * 2 + ["lateword"]))
        proxy.judge.words["lateword"] = Say(CALM.body, delay_s=0.8)
        reads = ask(proxy)
        next(reads)
        raw = "".join(reads)
        head, _, _ = raw.partition(SENTENCE.split()[0])
        assert head.count(": held\n\n") >= 2
        assert read(raw) == (SENTENCE * 2 + "lateword", ["stop", "[DONE]"])

    def test_the_sdk_does_not_mind(self, proxies: Proxies, upstream: FakeUpstream):
        proxy = proxies(streaming={"keep_alive_s": 0.1, "release": "whole"})
        upstream.script.append(stream([SENTENCE, "lateword"]))
        proxy.judge.words["lateword"] = Say(CALM.body, delay_s=0.5)
        asked: list[Any] = [{"role": "user", "content": "Hello"}]
        with proxy.openai(max_retries=0) as sdk:
            parts = sdk.chat.completions.create(model="m", messages=asked, stream=True)
            text = "".join(part.choices[0].delta.content or "" for part in parts)
        assert text == SENTENCE + "lateword"

    def test_a_refusal_after_a_comment_is_a_stream(self, proxies: Proxies, upstream: FakeUpstream):
        proxy = proxies(streaming={"keep_alive_s": 0.1, "release": "whole"})
        upstream.script.append(stream([SENTENCE, "lateword"]))
        proxy.judge.words["lateword"] = Say(BOTH.body, delay_s=0.5)
        reads = ask(proxy)
        next(reads)
        raw = "".join(reads)
        assert raw.startswith(": held\n\n") or ": held\n\n" in raw
        assert read(raw) == (REFUSAL, ["content_filter", "[DONE]"])
