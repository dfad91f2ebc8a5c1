"""What is written down: the audit file and the server's log, and what must stand in neither."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from guardrail.core.record import fingerprint
from tests.e2e.conftest import (
    CALLER_KEY,
    JUDGE_KEY,
    REFUSAL,
    SERVER_KEY,
    Proxies,
    Proxy,
    WordJudge,
    console_script,
    start_proxy,
    until,
)
from tests.fakes import FakeUpstream, Say, completion, stream, verdict

# Invented texts that stand nowhere else, so that one hit anywhere is a leak.
PROMPT = "zebra-lantern-prompt"
ANSWER = "copper-violin-answer"
KEYS = (CALLER_KEY, JUDGE_KEY, SERVER_KEY)
RECORD_KEYS = {
    "id",
    "time",
    "stage",
    "dialect",
    "action",
    "degraded",
    "findings",
    "unjudged",
    "fingerprint",
}
FINDING_KEYS = {
    "policy",
    "revision",
    "label",
    "action",
    "status",
    "error",
    "judge",
    "effort",
    "latency_ms",
    "tokens",
}


def ask(proxy: Proxy, prompt: str, *, streaming: bool = False, **more: Any) -> str:
    """Send one prompt with the caller's key; returns the decision id."""
    sent = {"model": "m", "stream": streaming, "messages": [{"role": "user", "content": prompt}], **more}
    answer = proxy.post(sent, headers={"authorization": f"Bearer {CALLER_KEY}"})
    return answer.headers["x-guardrail-id"]


def sink(content: str) -> dict[str, Any]:
    return {"audit": {"sinks": [{"kind": "jsonl", "path": "audit.jsonl", "content": content}]}}


class TestRecords:
    def test_a_record_has_the_keys_of_the_contract(self, proxy: Proxy) -> None:
        for record in proxy.recorded(ask(proxy, PROMPT), "input", "output"):
            assert set(record) >= RECORD_KEYS
            assert record["dialect"] == "chat.completions"
            (finding,) = record["findings"]
            assert set(finding) >= FINDING_KEYS
            assert finding["policy"] == "house"
            assert len(finding["revision"]) == 64
            assert finding["judge"] == "fake-judge"
            assert finding["effort"] == "low"
            assert finding["latency_ms"] > 0

    def test_a_failed_finding_has_the_same_keys(self, proxy: Proxy) -> None:
        (record,) = proxy.recorded(ask(proxy, "an outageword"), "input")
        assert set(record["findings"][0]) >= FINDING_KEYS

    def test_tokens_are_as_the_judge_counted_them(self, proxy: Proxy) -> None:
        body = json.loads(verdict(0, None))
        body["usage"]["prompt_tokens_details"] = {"cached_tokens": 640}
        proxy.judge.script.append(Say(json.dumps(body).encode()))
        before, after = proxy.recorded(ask(proxy, PROMPT), "input", "output")
        assert before["findings"][0]["tokens"] == {
            "prompt": 700,
            "cached": 640,
            "completion": 9,
            "cost_usd": None,
        }
        assert after["findings"][0]["tokens"] is None, "a judge that does not say is unknown, not 0"

    def test_equal_texts_have_equal_fingerprints(self, proxy: Proxy) -> None:
        (first, _), (second, _), (other, _) = (
            proxy.recorded(ask(proxy, text), "input", "output") for text in (PROMPT, PROMPT, PROMPT + "!")
        )
        assert first["fingerprint"] == second["fingerprint"] == fingerprint(PROMPT)
        assert other["fingerprint"] != first["fingerprint"]

    def test_a_streamed_answer_has_the_fingerprint_of_the_same_answer_unstreamed(
        self, proxy: Proxy
    ) -> None:
        prints = []
        for streaming in (False, True):
            proxy.upstream.script.append(
                stream([ANSWER[:5], ANSWER[5:]]) if streaming else Say(completion(ANSWER))
            )
            _, after = proxy.recorded(ask(proxy, PROMPT, streaming=streaming), "input", "output")
            prints.append(after["fingerprint"])
        assert prints == [fingerprint(ANSWER)] * 2

    def test_a_verdict_from_the_cache_is_recorded_as_such(self, proxies: Proxies) -> None:
        proxy = proxies(cache={"max_entries": 100})
        first, second = (proxy.recorded(ask(proxy, PROMPT), "input", "output") for _ in range(2))
        assert [r["findings"][0]["status"] for r in (*first, *second)] == ["judged"] * 2 + ["cached"] * 2
        assert len(proxy.judge.judged) == 2

    def test_a_failure_is_not_cached(self, proxies: Proxies) -> None:
        proxy = proxies(cache={"max_entries": 100})
        proxy.judge.script.append(Say(b'{"error": {"message": "no"}}', status=401))
        (failed,) = proxy.recorded(ask(proxy, "the judge's key is wrong once"), "input")
        assert failed["findings"][0]["status"] == "unavailable"
        good, _ = proxy.recorded(ask(proxy, "the judge's key is wrong once"), "input", "output")
        assert good["findings"][0]["status"] == "judged"

    def test_nothing_is_recorded_where_nothing_was_decided(self, proxy: Proxy) -> None:
        ids = {ask(proxy, PROMPT, messages="none"), ask(proxy, PROMPT, n="two")}
        proxy.recorded(ask(proxy, PROMPT), "input", "output")  # what came before it is in the file by now
        assert not ids & {record["id"] for record in proxy.records()}

    def test_shadow_and_off_are_the_policys_own(
        self, tmp_path: Path, judge: WordJudge, upstream: FakeUpstream
    ) -> None:
        """A policy in shadow mode decides and is recorded, and never acts; one that is off is not asked."""
        proxy = start_proxy(
            tmp_path / "proxy", judge, upstream, {}, modes={"house": "shadow", "extra": "off"}
        )
        try:
            before, _ = proxy.recorded(ask(proxy, "a blockword", guardrails=["extra"]), "input", "output")
            assert before["action"] == "pass"
            (finding,) = before["findings"]
            assert (finding["policy"], finding["action"], finding["mode"]) == ("house", "block", "shadow")
            assert len(upstream.seen) == 1
        finally:
            proxy.stop()


class TestContent:
    def test_full_holds_the_text_and_the_rationale(self, proxies: Proxies) -> None:
        proxy = proxies(**sink("full"))
        (record,) = proxy.recorded(ask(proxy, f"{PROMPT} blockword"), "input")
        assert record["text"] == f"{PROMPT} blockword"
        assert record["rationales"] == {"house": "r."}

    def test_none_holds_not_even_a_fingerprint(self, proxies: Proxies) -> None:
        proxy = proxies(**sink("none"))
        (record,) = proxy.recorded(ask(proxy, f"{PROMPT} blockword"), "input")
        assert "fingerprint" not in record
        assert "text" not in record


def through_every_path(proxy: Proxy) -> None:
    """Send texts of our own through everything that can happen to a request."""
    upstream, judge = proxy.upstream, proxy.judge
    for word in ("fine", "flagword", "redactword", "blockword", "outageword", "garbageword"):
        for streaming in (False, True):
            upstream.text = f"{ANSWER} without a doubt, and so on and on and on and on, then a {word}."
            ask(proxy, f"{PROMPT} {word}", streaming=streaming)
            ask(proxy, PROMPT, streaming=streaming)
    echo = json.dumps(
        {"error": {"message": f"bad prompt: {PROMPT}", "type": PROMPT, "code": PROMPT}}
    ).encode()
    for status in (400, 401, 404, 429, 500):
        judge.script.extend([Say(echo, status=status, headers={"x-echo": PROMPT})] * 4)
        ask(proxy, PROMPT)
        judge.script.clear()
        upstream.script.append(Say(echo, status=status))
        ask(proxy, PROMPT)
    for answer in (PROMPT, f'{{"violation": "{PROMPT}"}}', f'{{"violation": 1, "label": "{PROMPT}"}}'):
        judge.script.extend([Say(completion(answer))] * 2)
        ask(proxy, PROMPT)
        judge.script.clear()
    upstream.script.extend(
        [Say(f'{{"choices": "{ANSWER}"}}'.encode()), Say(drop=True), Say(ANSWER.encode())]
    )
    for _ in range(3):
        ask(proxy, PROMPT)
    broken = Say(headers={"content-type": "text/event-stream"}, chunks=[f"data: {{{ANSWER}\n\n".encode()])
    upstream.script.append(broken)
    ask(proxy, PROMPT, streaming=True)
    for raw in (
        f'{{"messages": "{PROMPT}"}}',
        f"{PROMPT}",
        f'{{"messages": [], "{PROMPT}": 1, "{PROMPT}": 2}}',
    ):
        proxy.post(raw.encode(), headers={"authorization": f"Bearer {CALLER_KEY}"})
    proxy.http.post(f"/v1/{PROMPT}", headers={"authorization": f"Bearer {CALLER_KEY}"})
    proxy.http.get("/v1/models", headers={"authorization": f"Bearer {CALLER_KEY}"})


@pytest.mark.parametrize("mode", ["closed", "open"])
def test_no_text_and_no_key_is_written_anywhere(proxies: Proxies, mode: str) -> None:
    proxy = proxies(on_error={"input": mode, "output": mode}, upstream={"api_key": SERVER_KEY})
    through_every_path(proxy)
    proxy.recorded(ask(proxy, "the last one"), "input", "output")
    audit = (proxy.folder / "audit.jsonl").read_text(encoding="utf-8")
    log = proxy.process.log
    assert len(audit.splitlines()) > 40
    assert "check failed" in log, "failures are logged, without the text"
    for secret in (PROMPT, ANSWER, *KEYS):
        assert secret not in audit
        assert secret not in log


def test_the_clients_own_errors_do_not_quote_it(proxy: Proxy) -> None:
    for body in (
        {"messages": [PROMPT]},
        {"messages": [], "guardrails": [PROMPT]},
        {"messages": [], "n": PROMPT},
    ):
        assert PROMPT not in proxy.post(body).text


def test_only_the_caller_and_the_upstream_see_the_callers_key(proxy: Proxy) -> None:
    ask(proxy, PROMPT)
    assert all(CALLER_KEY not in str(seen.headers) + seen.body.decode() for seen in proxy.judge.seen)
    assert all(JUDGE_KEY not in str(seen.headers) for seen in proxy.upstream.seen)


def test_records_of_the_last_moment_are_written_before_the_end(
    tmp_path: Path, judge: WordJudge, upstream: FakeUpstream
) -> None:
    proxy = start_proxy(tmp_path / "proxy", judge, upstream, {})
    try:
        ids = [ask(proxy, f"a blockword {n}") for n in range(20)]
    finally:
        proxy.stop()
    assert {record["id"] for record in proxy.records()} == set(ids)


class TestStart:
    """What cannot work stops the start, in one line, and quotes no secret."""

    def serve(self, folder: Path, text: str) -> subprocess.CompletedProcess[str]:
        file = folder / "guardrail.yaml"
        file.write_text(text, encoding="utf-8")
        command = [console_script(), "serve", "-c", str(file)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("version: 1\nnosuch: 1\n", "nosuch"),
            ("version: 1\npolicies: {input: [nosuch]}\nupstream: {kind: demo}\n", "policies.directory"),
            (
                f"version: 1\nupstream: {{kind: demo, api_key: [{SERVER_KEY}]}}\npolicies: {{input: [a]}}",
                "api_key",
            ),
            ("version: 1\nversion: 1\n", "version"),
            (
                "version: 1\nupstream: {base_url: '${NO_SUCH_VARIABLE}'}\npolicies: {input: [a]}\n",
                "NO_SUCH_VARIABLE",
            ),
        ],
    )
    def test_a_bad_file_is_named_with_its_key(self, tmp_path: Path, text: str, named: str) -> None:
        ended = self.serve(tmp_path, text)
        assert ended.returncode == 78
        assert named in ended.stderr
        assert "Traceback" not in ended.stderr
        assert SERVER_KEY not in ended.stderr + ended.stdout

    def test_a_port_that_is_taken(self, tmp_path: Path, proxy: Proxy) -> None:
        text = (proxy.folder / "guardrail.yaml").read_text(encoding="utf-8")
        (tmp_path / "policies").symlink_to(proxy.folder / "policies")
        ended = self.serve(tmp_path, text)
        assert ended.returncode != 0
        assert "address already in use" in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_port_0_picks_one(self, tmp_path: Path, proxy: Proxy) -> None:
        (tmp_path / "policies").symlink_to(proxy.folder / "policies")
        text = (proxy.folder / "guardrail.yaml").read_text(encoding="utf-8")
        (tmp_path / "guardrail.yaml").write_text(text, encoding="utf-8")
        command = [console_script(), "serve", "-c", str(tmp_path / "guardrail.yaml"), "--port", "0"]
        with (tmp_path / "log").open("wb") as log:
            served = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            said = "Uvicorn running on http://127.0.0.1:"
            line = until(lambda: (tmp_path / "log").read_text(encoding="utf-8").partition(said)[2], said)
            with socket.create_connection(("127.0.0.1", int(line.split(" ")[0])), 5):
                pass
        finally:
            served.terminate()
            served.wait(20)


def test_a_refusal_carries_the_id_of_its_record(proxy: Proxy) -> None:
    sent = {"messages": [{"role": "user", "content": "a blockword"}]}
    answer = proxy.post(sent)
    assert answer.json()["choices"][0]["message"]["content"] == REFUSAL
    assert answer.headers["x-guardrail-id"] in answer.json()["id"]
    proxy.recorded(answer.headers["x-guardrail-id"], "input")
