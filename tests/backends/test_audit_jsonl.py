"""The twin of guardrail/backends/audit_jsonl.py."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.backends import audit_jsonl
from guardrail.backends.audit_jsonl import JsonlSink
from guardrail.core.decision import Decision, Failure
from guardrail.core.policy import Action, FailMode, LabelRule, Policy, Stage
from guardrail.core.record import DecisionRecord, fingerprint
from guardrail.core.redaction import Span
from guardrail.core.verdict import Usage, Verdict
from guardrail.errors import ConfigError, FailureCode
from tests.threads import threads

pytestmark = pytest.mark.anyio

BOUND_S = 10.0
LABELS = {"OK": LabelRule("OK", violation=False), "BAD": LabelRule("BAD", True, Action.BLOCK)}
POLICY = Policy("p", "The body that the judge reads.", LABELS)
TEXT = "what the user wrote"
VERDICT = Verdict(
    POLICY,
    "BAD",
    violation=True,
    excerpts=("the user",),
    spans=((0, Span(0, 4, "BAD")),),
    rationale="it quotes: wrote",
    judge="m",
    usage=Usage(700, 9, None),
    latency_ms=12.34,
)


def record_of(number: int = 0, text: str = TEXT, *findings: Any, **more: Any) -> DecisionRecord:
    decision = Decision(Stage.INPUT, Action.BLOCK, findings or (VERDICT,), id=f"gr-{number}", **more)
    return DecisionRecord(decision, 1760000000.12345, "chat.completions", text)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


class TestContent:
    async def write(self, path: Path, content: Any, *records: DecisionRecord) -> list[dict[str, Any]]:
        sink = JsonlSink(path, content)
        for record in records:
            sink.record(record)
        await sink.aclose()
        return lines(path)

    @pytest.mark.parametrize("content", ["none", "fingerprint", "full"])
    async def test_a_record_is_one_json_object_a_line(self, content: str, tmp_path: Path):
        failure = Failure(POLICY, FailureCode.TIMEOUT, FailMode.OPEN, latency_ms=5000.0)
        records = [record_of(0), record_of(1, TEXT, VERDICT, failure, unjudged=("$.x",))]
        first, second = await self.write(tmp_path / "a.jsonl", content, *records)
        judged = {
            "policy": "p",
            "revision": POLICY.revision,
            "label": "BAD",
            "action": "block",
            "mode": "enforce",
            "status": "judged",
            "error": None,
            "judge": "m",
            "effort": None,
            "latency_ms": 12.3,
            "reduced_coverage": False,
            "tokens": {"prompt": 700, "cached": None, "completion": 9, "cost_usd": None},
            "steps": [],
        }
        more: dict[str, Any] = {}
        if content != "none":
            more["fingerprint"] = fingerprint(TEXT)
        if content == "full":
            more |= {"text": TEXT, "rationales": {"p": "it quotes: wrote"}}
        assert first == more | {
            "id": "gr-0",
            "time": 1760000000.123,
            "stage": "input",
            "dialect": "chat.completions",
            "action": "block",
            "degraded": False,
            "checks": 1,
            "findings": [judged],
            "unjudged": [],
            "coverage": None,
        }
        assert (second["degraded"], second["unjudged"]) == (True, ["$.x"])
        assert second["findings"][1] == {
            "policy": "p",
            "revision": POLICY.revision,
            "label": None,
            "action": "pass",
            "mode": "enforce",
            "status": "unavailable",
            "error": "timeout",
            "fail_mode": "open",
            "judge": "",
            "effort": "low",
            "latency_ms": 5000.0,
            "tokens": None,
        }

    @pytest.mark.parametrize("content", ["none", "fingerprint"])
    async def test_no_judged_text_is_written_unless_asked_for(self, content: str, tmp_path: Path):
        await self.write(tmp_path / "a.jsonl", content, record_of())
        raw = (tmp_path / "a.jsonl").read_text()
        for part in (TEXT, "the user", "wrote", "quotes", POLICY.body):
            assert part not in raw
        assert (fingerprint(TEXT) in raw) is (content == "fingerprint")

    async def test_fingerprint_is_the_default(self, tmp_path: Path):
        sink = JsonlSink(tmp_path / "a.jsonl")
        sink.record(record_of())
        await sink.aclose()
        (line,) = lines(tmp_path / "a.jsonl")
        assert "fingerprint" in line
        assert "text" not in line

    @pytest.mark.parametrize("content", ["none", "full"])
    async def test_a_lone_surrogate_stops_nothing(self, content: str, tmp_path: Path):
        odd = record_of(0, "a\ud800b", unjudged=("$.\udfff",))
        first, second = await self.write(tmp_path / "a.jsonl", content, odd, record_of(1))
        assert (first["id"], second["id"]) == ("gr-0", "gr-1")
        assert first["unjudged"] == (["$.\udfff"] if content == "full" else ["$.?"])
        assert first.get("text") == ("a\ud800b" if content == "full" else None)

    async def test_it_appends_to_what_is_there(self, tmp_path: Path):
        for number in range(2):
            await self.write(tmp_path / "a.jsonl", "none", record_of(number))
        assert [line["id"] for line in lines(tmp_path / "a.jsonl")] == ["gr-0", "gr-1"]


@given(st.text())
def test_any_text_is_one_line(text: str):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"

        async def write() -> None:
            sink = JsonlSink(path, "full")
            sink.record(record_of(0, text))
            await sink.aclose()

        anyio.run(write)
        (line,) = (json.loads(raw) for raw in path.read_bytes().removesuffix(b"\n").split(b"\n"))
        assert line["text"] == text


class TestWriting:
    async def test_records_are_written_while_it_is_open(self, tmp_path: Path):
        path = tmp_path / "a.jsonl"
        sink = JsonlSink(path)
        try:
            for number in range(3):
                sink.record(record_of(number))
                with anyio.fail_after(BOUND_S):
                    while len(lines(path)) <= number:  # noqa: ASYNC110 - a thread writes
                        await anyio.sleep(0.01)
        finally:
            await sink.aclose()
        assert [line["id"] for line in lines(path)] == ["gr-0", "gr-1", "gr-2"]

    async def test_closing_writes_what_waits_and_ends_the_thread(self, tmp_path: Path):
        before = threads()
        sink = JsonlSink(tmp_path / "a.jsonl")
        for number in range(1000):
            sink.record(record_of(number))
        await sink.aclose()
        assert len(lines(tmp_path / "a.jsonl")) == 1000
        assert threads() <= before
        assert sink._file.closed
        await sink.aclose()  # twice is once
        sink.record(record_of())  # too late, but it never raises

    async def test_a_record_that_comes_while_it_closes_is_written(self, tmp_path: Path):
        class Late(JsonlSink):
            """Gets one more record when its thread has just looked for the last time."""

            late = False

            def _write(self) -> None:
                super()._write()
                if not self.late:
                    self.late = self._stopping = True
                    self.record(record_of(1))

        sink = Late(tmp_path / "a.jsonl")
        sink.record(record_of(0))
        await sink.aclose()
        assert [line["id"] for line in lines(tmp_path / "a.jsonl")] == ["gr-0", "gr-1"]

    async def test_many_threads_may_record(self, tmp_path: Path):
        sink = JsonlSink(tmp_path / "a.jsonl")
        threads = [
            threading.Thread(target=lambda n=n: [sink.record(record_of(n * 100 + i)) for i in range(100)])
            for n in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            await anyio.to_thread.run_sync(thread.join)
        await sink.aclose()
        ids = {line["id"] for line in lines(tmp_path / "a.jsonl")}
        assert ids == {f"gr-{number}" for number in range(500)}

    async def test_the_queue_is_bounded_and_the_oldest_are_dropped_and_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(audit_jsonl, "MAX_WAITING", 3)
        gate = threading.Event()

        class Stuck(JsonlSink):
            """Writes nothing until its gate opens, like a disk that hangs."""

            def _write(self) -> None:
                gate.wait(BOUND_S)
                super()._write()

        sink = Stuck(tmp_path / "a.jsonl")
        for number in range(5):
            sink.record(record_of(number))
        gate.set()
        await sink.aclose()
        assert [line["id"] for line in lines(tmp_path / "a.jsonl")] == ["gr-2", "gr-3", "gr-4"]
        assert sink.dropped == 2

    async def test_the_event_loop_goes_on_while_it_is_closed(self, tmp_path: Path):
        gate = threading.Event()

        class Stuck(JsonlSink):
            """Writes nothing until its gate opens, like a disk that hangs."""

            def _write(self) -> None:
                assert gate.wait(BOUND_S)
                super()._write()

        before = threads()
        sink = Stuck(tmp_path / "a.jsonl")
        sink.record(record_of())
        async with anyio.create_task_group() as group:
            group.start_soon(sink.aclose)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()  # what waits is written all the same
            gate.set()  # only a loop that goes on comes here
        assert [line["id"] for line in lines(tmp_path / "a.jsonl")] == ["gr-0"]
        assert sink._file.closed
        assert threads() <= before

    async def test_a_full_disk_costs_records_but_never_raises(self, caplog: pytest.LogCaptureFixture):
        sink = JsonlSink(Path("/dev/full"))
        sink.record(record_of())
        with anyio.fail_after(BOUND_S):
            while not sink.dropped:  # noqa: ASYNC110 - a thread writes
                await anyio.sleep(0.01)
            sink.record(record_of())
            await sink.aclose()
        assert sink.dropped == 2
        assert not sink._thread.is_alive()
        assert "records lost" in caplog.text
        assert TEXT not in caplog.text


class TestStart:
    @pytest.mark.parametrize("where", ["missing/a.jsonl", "."])
    async def test_a_path_that_cannot_be_written_stops_the_start(self, where: str, tmp_path: Path):
        before = threads()
        with pytest.raises(
            ConfigError, match=r"^audit\.sinks: cannot write .*: .*; create its folder"
        ) as e:
            JsonlSink(tmp_path / where)
        assert str(tmp_path / where) in str(e.value)
        assert threads() <= before
