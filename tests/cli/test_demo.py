"""The twin of guardrail/cli/demo.py: the tour ends as it should, and says so where it does not."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest

from guardrail.cli import demo

GUARDRAIL = Path(sys.executable).with_name("guardrail")
WIDE = {**os.environ, "COLUMNS": "200"}
# A proxy named in the environment is for the network; the tour is on loopback.
QUIET = {name: value for name, value in WIDE.items() if not name.lower().endswith("_proxy")}


class TestTour:
    def test_once_ends_with_0_and_every_conversation_ended_as_it_should(self):
        command = [GUARDRAIL, "demo", "--once", "--port", "0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=QUIET)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False)
        verdicts = re.findall(r"│ +(yes|NO) +│$", done.stdout, re.MULTILINE)
        assert verdicts == ["yes"] * len(demo._TOUR)
        for stop in demo._TOUR:
            assert f"│ {stop.title} " in done.stdout
        for shown in ("[REDACTED:PII2]", "503 guardrail_unavailable", "(content_filter)"):
            assert shown in done.stdout
        assert "4111" not in done.stdout.replace("card 4111", "")
        assert "The proxy stays up" not in done.stdout

    def test_the_contract_s_conversations_are_all_in_it(self):
        assert [stop.title for stop in demo._TOUR] == [
            "pass",
            "input blocked",
            "input redacted",
            "output redacted in a stream",
            "input redacted, restored in the stream",
            "output halted in mid-stream",
            "judge down, fails closed",
            "judge down, fails open",
        ]

    @pytest.mark.parametrize("bad", [0, 1])
    def test_a_conversation_that_ends_otherwise_is_a_no_and_exit_code_1(
        self, bad: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ):
        first, second = demo._TOUR[:2]
        stops = [first, second]
        stops[bad] = replace(stops[bad], ends_well=lambda seen: False)
        monkeypatch.setattr(demo, "_TOUR", tuple(stops))
        monkeypatch.setenv("COLUMNS", "200")
        assert anyio.run(demo._demo, True, 0) == 1
        verdicts = re.findall(r"│ +(yes|NO) +│$", capsys.readouterr().out, re.MULTILINE)
        assert verdicts == ["NO" if index == bad else "yes" for index in range(2)]

    def test_all_good_is_exit_code_0(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(demo, "_TOUR", demo._TOUR[:1])
        assert anyio.run(demo._demo, True, 0) == 0
        assert "│  NO  │" not in capsys.readouterr().out

    @pytest.mark.parametrize("index", range(8))
    def test_a_stop_is_not_content_with_just_any_answer(self, index: int):
        """Each stop tells the right end from an empty one, an unguarded one and a cut one."""
        wrong = [
            demo._Seen("", "", "cut", ""),
            demo._Seen("something else", "pass", "cut", ""),
            demo._Seen("dana.whitfield@example.com, villain, pipe bomb, 4111", "pass", "stop", ""),
        ]
        assert not any(demo._TOUR[index].ends_well(seen) for seen in wrong)


class TestStayingUp:
    @pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
    def test_it_can_be_tried_until_it_is_ended(self, sent: signal.Signals):
        command = [GUARDRAIL, "demo", "--port", "0"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=QUIET
        ) as process:
            try:
                assert process.stdout is not None
                found = next(
                    filter(None, map(partial(re.search, r"stays up at (http://\S+)"), process.stdout))
                )
                body = json.dumps(
                    {"messages": [{"role": "user", "content": "Mail kim@example.com"}]}
                ).encode()
                request = urllib.request.Request(f"{found[1]}/chat/completions", body)
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(request, timeout=30) as answer:
                    assert answer.headers["x-guardrail-decision"] == "redact"
                    assert b"[REDACTED:PII2]" in answer.read()
                process.send_signal(sent)
                _, errors = process.communicate(timeout=30)
            finally:
                process.kill()
        assert process.returncode in (0, -sent, 128 + sent)
        assert "Traceback" not in errors


class TestSockets:
    def test_a_client_may_connect_before_the_server_has_started(self):
        """The tour begins while uvicorn starts: what it asks must wait, not be refused."""
        with demo._listen(0) as listening, socket.create_connection(listening.getsockname(), timeout=5):
            pass

    def test_a_port_that_is_taken_is_replaced_by_another(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with demo._listen(port) as listening:
                assert listening.getsockname()[1] not in (0, port)

    def test_a_free_port_is_one_that_nobody_answers_on(self):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", demo._free_port()), timeout=5)
