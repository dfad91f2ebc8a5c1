"""What becomes of every way in which a judge can fail: the finding, the calls made, what a client sees.

Each row is played through a real ``guardrail serve`` that fails closed and one that fails open, against
a judge over real HTTP. The table in docs/failures.md is written from what was seen here
(``GUARDRAIL_WRITE_DOCS=1``), and this test fails when the page says anything else.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Proxy, classified, ruling, start_proxy, until
from tests.fakes import FakeServer, FakeUpstream, Say, Seen, completion

PAGE = Path(__file__).parents[2] / "docs" / "failures.md"
BEGIN, END = "<!-- failure table -->\n", "<!-- end of failure table -->"
FINE = ruling(0, None)


def error(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


def cut(tokens: int) -> bytes:
    """A sound pass whose prompt, by the server's own count, was far shorter than what it was sent."""
    body = json.loads(FINE)
    body["usage"] = {"prompt_tokens": tokens, "completion_tokens": 5, "total_tokens": tokens + 5}
    return json.dumps(body).encode()


HTML = {"content-type": "text/html"}
TWO = completion('{"violation": 0, "label": "OK"}\n{"violation": 1, "label": "BLK"}')
OVERFLOW = error("This model's maximum context length is 8192 tokens. However, you requested 9000.")
NO_EFFORT = error("Unsupported parameter: 'reasoning_effort' is not supported with this model.")
TPM = error("Request too large for model: tokens per minute (TPM): Limit 8000, Requested 9100")
GENERATED = error("Failed", code="json_validate_failed", failed_generation='{"violation":1,"label":"BLK"}')
DRIP = [b'{"choices": [', *[b" "] * 60, b"]}"]


@dataclass(frozen=True)
class Row:
    """What the judge does (the last answer repeats), and what must come of it.

    ``finding`` is ``pass``, ``block`` or a class of failure.
    """

    signal: str
    answers: list[Say]
    finding: str
    calls: int
    padding: int = 0  # characters in front of the prompt
    closed: str = ""  # what a client sees, where it is not the usual 503


ROWS = [
    Row("one sound verdict", [Say(FINE)], "pass", 1),
    Row("a sound verdict under a wrong content-type", [Say(FINE, headers=HTML)], "pass", 1),
    Row("200 with an `error` inside (502)", [Say(error("down", code=502))], "unavailable", 4),
    Row("200 with an `error` inside (402)", [Say(error("pay", code=402))], "auth", 1),
    Row("empty content", [Say(completion(""))], "malformed", 2),
    Row("empty content, then a verdict", [Say(completion(None)), Say(FINE)], "pass", 2),
    Row("`finish_reason: length`", [Say(completion('{"viol', finish_reason="length"))], "truncated", 2),
    Row(
        "`finish_reason: length`, a verdict with twice the budget",
        [Say(completion(None, finish_reason="length")), Say(FINE)],
        "pass",
        2,
    ),
    Row("a refusal", [Say(completion("I'm sorry, but I can't help with that."))], "block", 1),
    Row("two different verdicts", [Say(TWO)], "malformed", 2),
    Row("a verdict inside prose", [Say(completion("It is not a violation: 0."))], "malformed", 2),
    Row(
        "a violation under an unknown label",
        [Say(ruling(1, "X9"))],
        "malformed",
        2,
        closed="200, a refusal, `x-guardrail-degraded: house=malformed`",
    ),
    Row(
        "far fewer prompt tokens than were sent, then halves that fit",
        [Say(cut(90))],
        "pass",
        4,
        padding=24_000,
    ),
    Row("400, context length", [Say(OVERFLOW, status=400)], "too_long", 1),
    Row("400, a parameter is not supported", [Say(NO_EFFORT, status=400), Say(FINE)], "pass", 2),
    Row("400, `json_validate_failed` with the generation", [Say(GENERATED, status=400)], "block", 1),
    Row("400, anything else", [Say(error("bad request"), status=400)], "auth", 1),
    Row("401", [Say(error("bad key"), status=401)], "auth", 1),
    Row("402", [Say(error("no credit"), status=402)], "auth", 1),
    Row("403", [Say(error("not yours"), status=403)], "auth", 1),
    Row("404", [Say(error("no such model"), status=404)], "auth", 1),
    Row("408", [Say(error("slow"), status=408)], "unavailable", 4),
    Row("409", [Say(error("conflict"), status=409)], "unavailable", 4),
    Row("413", [Say(error("large"), status=413)], "too_long", 1),
    Row("422", [Say(error("odd"), status=422)], "auth", 1),
    Row("429", [Say(error("slow down"), status=429)], "rate_limited", 4),
    Row(
        "429 with `retry-after: 0.2`, then a verdict",
        [Say(error("slow down"), status=429, headers={"retry-after": "0.2"}), Say(FINE)],
        "pass",
        2,
    ),
    Row(
        "429 with `retry-after: 60`",
        [Say(error("slow down"), status=429, headers={"retry-after": "60"})],
        "rate_limited",
        1,
    ),
    Row("429, request too large", [Say(TPM, status=429)], "too_long", 1),
    Row("498", [Say(error("capacity"), status=498)], "unavailable", 4),
    Row("500", [Say(error("crash"), status=500)], "unavailable", 4),
    Row("500, then a verdict", [Say(error("crash"), status=500), Say(FINE)], "pass", 2),
    Row("502", [Say(b"<html>", status=502, headers=HTML)], "unavailable", 4),
    Row("503", [Say(error("loading"), status=503)], "unavailable", 4),
    Row("529", [Say(error("overloaded"), status=529)], "unavailable", 4),
    Row("connection reset before the answer", [Say(drop=True)], "unavailable", 2),
    Row("connection reset, then a verdict", [Say(drop=True), Say(FINE)], "pass", 2),
    Row("connection lost in mid-answer", [Say(chunks=[FINE[:20]], drop=True)], "unavailable", 2),
    Row("no answer at all", [Say(FINE, delay_s=60)], "timeout", 1),
    Row("an answer that drips", [Say(chunks=DRIP, pause_s=0.1)], "timeout", 1),
    Row("200 with invalid JSON", [Say(b'{"choices": [')], "malformed", 2),
    Row("200 with a web page", [Say(b"<html>welcome</html>", headers=HTML)], "malformed", 2),
]
KEYS = {f"signal-{number}.": row for number, row in enumerate(ROWS)}


class RowJudge(FakeServer):
    """Answers by the key of a row in the judged text, each row's answers in their order."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        super().__init__(self._answer_row)

    def _answer_row(self, seen: Seen) -> Say:
        if seen.method == "GET":
            return Say(b'{"object": "list", "data": []}')
        text = classified(seen.json["messages"][-1]["content"])
        key = next((key for key in KEYS if key in text), None)
        if key is None:  # the warm-up, or an answer of the upstream's
            return Say(FINE)
        asked = self.calls[key] = self.calls.get(key, 0) + 1
        answers = KEYS[key].answers
        return answers[min(asked, len(answers)) - 1]


@dataclass(frozen=True)
class Outcome:
    """What was seen of one row in one mode."""

    finding: str
    calls: int
    client: str


def play(proxy: Proxy, judge: RowJudge, key: str) -> Outcome:
    prompt = "word " * (KEYS[key].padding // 5) + key
    answer = proxy.post({"model": "m", "messages": [{"role": "user", "content": prompt}]})
    decision_id = answer.headers["x-guardrail-id"]
    record = until(lambda: proxy.records(decision_id), f"{key} recorded")[0]
    (found,) = record["findings"]
    finding = found["error"] or found["action"]
    return Outcome(finding, judge.calls[key], shown(answer))


def shown(answer: Any) -> str:
    if answer.status_code == 200:
        refused = answer.json()["choices"][0]["finish_reason"] == "content_filter"
        degraded = answer.headers.get("x-guardrail-degraded")
        told = f", `x-guardrail-degraded: {degraded}`" if degraded else ""
        return ("200, a refusal" if refused else "200, the answer") + told
    retry = f", `retry-after: {answer.headers['retry-after']}`" if "retry-after" in answer.headers else ""
    return f"{answer.status_code} `{answer.json()['error']['code']}`{retry}"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Outcome]:
    """Every row in both modes, side by side."""
    found: dict[tuple[str, str], Outcome] = {}
    for mode in ("closed", "open"):
        with RowJudge() as judge, FakeUpstream() as upstream:
            changes = {
                "on_error": {"input": mode, "output": mode},
                "classifier": {"timeout_s": 3},
                "policies": {"input": ["house"], "output": []},
                "limits": {"max_body_bytes": 4_000_000},
            }
            proxy = start_proxy(tmp_path_factory.mktemp(mode) / "proxy", judge, upstream, changes)  # type: ignore[arg-type]  # any fake judge
            try:
                with ThreadPoolExecutor(len(KEYS)) as pool:
                    played = pool.map(lambda key: play(proxy, judge, key), KEYS)  # noqa: B023
                    found |= {(mode, key): seen for key, seen in zip(KEYS, played, strict=True)}
            finally:
                proxy.stop()
    return found


CLOSED = {"pass": "200, the answer", "block": "200, a refusal"}
REFUSED = "503 `guardrail_unavailable`, `retry-after: 5`"


@pytest.mark.parametrize("key", KEYS, ids=[row.signal for row in ROWS])
def test_a_row(outcomes: dict[tuple[str, str], Outcome], key: str):
    row = KEYS[key]
    closed, opened = outcomes["closed", key], outcomes["open", key]
    assert (closed.finding, opened.finding) == (row.finding, row.finding)
    assert (closed.calls, opened.calls) == (row.calls, row.calls)
    assert closed.client == (row.closed or CLOSED.get(row.finding, REFUSED))
    if row.finding == "auth":  # always closed
        assert opened.client == REFUSED
    elif row.finding in CLOSED:
        assert opened.client == CLOSED[row.finding]
    else:
        assert opened.client == f"200, the answer, `x-guardrail-degraded: house={row.finding}`"


def test_the_table_in_the_docs_is_what_was_seen(outcomes: dict[tuple[str, str], Outcome]):
    lines = [
        "| the judge's server says | finding | calls | a client sees, failing closed | failing open |",
        "| --- | --- | --: | --- | --- |",
    ]
    for key, row in KEYS.items():
        closed, opened = outcomes["closed", key], outcomes["open", key]
        same = "the same" if opened.client == closed.client else opened.client
        found = closed.finding if closed.finding in CLOSED else f"`{closed.finding}`"
        lines.append(f"| {row.signal} | {found} | {closed.calls} | {closed.client} | {same} |")
    table = "\n".join(lines) + "\n"
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    assert mark, f"{PAGE.name} has lost the marks of its table"
    written = before + BEGIN + table + END + after
    if os.environ.get("GUARDRAIL_WRITE_DOCS"):
        PAGE.write_text(written, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == written, "write it anew with GUARDRAIL_WRITE_DOCS=1"
