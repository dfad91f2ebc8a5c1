"""The twin of guardrail/cli/serve.py: the proxy as a process."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from guardrail.cli.serve import server
from tests.fakes import FakeUpstream, Say, completion, stream

GUARDRAIL = Path(sys.executable).with_name("guardrail")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    forbid("forbidden", tmp_path)
    return write(tmp_path / "guardrail.yaml")


def forbid(word: str, folder: Path) -> None:
    policy = folder / "policies" / "house" / "policy.md"
    policy.parent.mkdir(parents=True, exist_ok=True)
    labels = "labels:\n  OK: {violation: false}\n  STOP: {violation: true, action: block}\n"
    policy.write_text(
        f"---\nid: house\n{labels}phrases:\n  STOP: ['{word}']\n---\nJudge by the house rules.\n"
    )


def write(file: Path, **keys: Any) -> Path:
    whole = {
        "version": 1,
        "server": {"port": 0},
        "upstream": {"kind": "demo"},
        "classifier": {"kind": "embedded"},
        "policies": {"input": ["house"], "output": ["house"]},
        "audit": {"sinks": [{"kind": "jsonl", "path": "audit.jsonl"}]},
        **keys,
    }
    file.write_text(yaml.safe_dump(whole))
    return file


@contextmanager
def serving(
    file: Path, *arguments: str
) -> Iterator[tuple[subprocess.Popen[str], http.client.HTTPConnection]]:
    command = [GUARDRAIL, "serve", "-c", file, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.search(r"running on http://([\d.]+):(\d+)", line):
                    break
            else:
                raise AssertionError("it never started")
            connection = http.client.HTTPConnection(found[1], int(found[2]), timeout=30)
            try:
                yield process, connection
            finally:
                connection.close()
        finally:
            process.kill()


def post(connection: http.client.HTTPConnection, text: str, **fields: Any) -> http.client.HTTPResponse:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **fields})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    return connection.getresponse()


class TestProcess:
    def test_it_guards_and_says_so(self, file: Path):
        with serving(file) as (_, connection):
            connection.request("GET", "/healthz")
            health = connection.getresponse()
            assert (health.status, health.read()) == (200, b"ok")
            answer = post(connection, "Hello")
            assert answer.headers["x-guardrail-decision"] == "pass"
            assert "scripted model" in json.loads(answer.read())["choices"][0]["message"]["content"]
            answer = post(connection, "a forbidden thing", stream=True)
            assert answer.headers["x-guardrail-decision"] == "block"
            assert answer.read().endswith(b"data: [DONE]\n\n")
            connection.request("POST", "/v1/images/generations", b"{}")
            refused = connection.getresponse()
            assert (refused.status, json.loads(refused.read())["error"]["code"]) == (403, "unguarded_path")

    @pytest.mark.parametrize(
        ("sent", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 128 + signal.SIGINT)]
    )
    def test_a_signal_ends_it_in_order(self, file: Path, sent: signal.Signals, code: int):
        """Without a traceback, with the audit written, with the exit code that a signal stands for."""
        with serving(file) as (process, connection):
            answer = post(connection, "Hello")
            answer.read()
            process.send_signal(sent)
            _, errors = process.communicate(timeout=30)
        assert process.returncode == code
        assert "Traceback" not in errors
        assert "Application shutdown complete" in errors
        lines = [json.loads(line) for line in (file.parent / "audit.jsonl").read_text().splitlines()]
        assert [line["stage"] for line in lines] == ["input", "output"]
        assert {line["id"] for line in lines} == {answer.headers["x-guardrail-id"]}

    def test_a_signal_lets_a_stream_that_runs_come_to_its_end(self, file: Path):
        with FakeUpstream() as upstream:
            upstream.script.append(stream(["word "] * 40, pause_s=0.02))
            write(
                file, upstream={"kind": "openai", "base_url": upstream.url}, streaming={"window_chars": 50}
            )
            with serving(file) as (process, connection):
                answer = post(connection, "Hello", stream=True)
                first = answer.readline()
                process.send_signal(signal.SIGTERM)
                raw = first + answer.read()
                _, errors = process.communicate(timeout=30)
        assert raw.count(b"word ") == 40
        assert raw.endswith(b"data: [DONE]\n\n")
        assert "Traceback" not in errors

    def test_host_and_port_of_the_command_go_before_those_of_the_file(self, file: Path):
        write(file, server={"host": "127.0.0.1", "port": 1})
        with serving(file, "--host", "127.0.0.2", "--port", "0") as (_, connection):
            assert connection.host == "127.0.0.2"
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() == b"ok"

    def test_a_port_that_is_taken_is_said_without_a_traceback(self, file: Path):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            command = [GUARDRAIL, "serve", "-c", file, "--port", port]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0
        assert "address already in use" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"upstream": None}, "upstream: is missing; "),
            ({"policies": {"input": ["nobody"]}}, "policies.input: no policy 'nobody'"),
            ({"audit": {"sinks": [{"kind": "jsonl", "path": "nowhere/a"}]}}, "audit.sinks: cannot write "),
        ],
    )
    def test_nothing_is_found_out_at_the_first_request(
        self, file: Path, keys: dict[str, Any], message: str
    ):
        write(file, **keys)
        command = [GUARDRAIL, "serve", "-c", file]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (78, "")
        assert done.stderr.startswith(f"guardrail: {file}: {message}")
        assert done.stderr.count("\n") == 1


def reload(process: subprocess.Popen[str]) -> str:
    """Send SIGHUP and return the line that says what came of it."""
    assert process.stderr is not None
    process.send_signal(signal.SIGHUP)
    return next(line for line in process.stderr if "reloaded" in line)


def decided(connection: http.client.HTTPConnection, text: str) -> str:
    answer = post(connection, text)
    answer.read()
    return answer.headers["x-guardrail-decision"]


class TestReload:
    def test_a_policy_that_was_changed_is_in_force_after_sighup(self, file: Path):
        with serving(file) as (process, connection):
            assert [decided(connection, word) for word in ("forbidden", "banned")] == ["block", "pass"]
            forbid("banned", file.parent)
            assert str(file) in reload(process)
            assert [decided(connection, word) for word in ("forbidden", "banned")] == ["pass", "block"]

    @pytest.mark.parametrize(
        "broken", ["version: 1\n", "version: [", "version: 1\npolicies: {input: [nobody]}\n"]
    )
    def test_a_file_that_cannot_be_used_leaves_the_old_one_in_force(self, file: Path, broken: str):
        sound = file.read_text()
        with serving(file) as (process, connection):
            file.write_text(broken)
            said = reload(process)
            assert f"not reloaded, the configuration in force stays: {file}: " in said
            assert [decided(connection, word) for word in ("forbidden", "banned")] == ["block", "pass"]
            file.write_text(sound)
            forbid("banned", file.parent)
            assert "not reloaded" not in reload(process)
            assert [decided(connection, word) for word in ("forbidden", "banned")] == ["pass", "block"]

    def test_no_request_is_dropped_meanwhile(self, file: Path):
        """A stream goes on under the rules it began with; others run all the while."""
        with FakeUpstream() as upstream:
            write(
                file, upstream={"kind": "openai", "base_url": upstream.url}, streaming={"window_chars": 50}
            )
            with serving(file) as (process, connection):
                slow = http.client.HTTPConnection(connection.host, connection.port, timeout=30)
                upstream.script.append(stream(["word "] * 40 + ["banned "] + ["word "] * 20, pause_s=0.02))
                answer = post(slow, "Hello", stream=True)
                first = answer.readline()
                ending = threading.Event()
                found: list[int] = []

                def others() -> None:
                    while not ending.is_set():
                        other = http.client.HTTPConnection(connection.host, connection.port, timeout=30)
                        reply = post(other, "Hello")
                        found.append(reply.status)
                        assert reply.read()
                        other.close()

                thread = threading.Thread(target=others)
                thread.start()
                forbid("banned", file.parent)
                try:
                    for _ in range(3):
                        assert "not reloaded" not in reload(process)
                    assert decided(connection, "banned") == "block"
                finally:
                    ending.set()
                    thread.join()
                whole = first + answer.read()
                slow.close()
                process.send_signal(signal.SIGTERM)
                _, errors = process.communicate(timeout=30)
        assert set(found) == {200}
        assert whole.count(b"word ") == 60
        assert whole.count(b"banned ") == 1
        assert whole.endswith(b"data: [DONE]\n\n")
        assert "Traceback" not in errors


def test_an_answer_has_one_date_and_the_upstreams_stays(file: Path):
    theirs = "Tue, 15 Nov 1994 08:12:31 GMT"
    with FakeUpstream() as upstream:
        write(file, upstream={"kind": "openai", "base_url": upstream.url})
        with serving(file) as (_, connection):
            kept = {"content-type": "application/json", "date": theirs, "server": "theirs"}
            upstream.script.append(Say(completion("Fine."), headers=kept))
            answer = post(connection, "Hello")
            answer.read()
            assert answer.headers.get_all("date") == [theirs]
            assert answer.headers.get_all("server") == ["theirs"]
            blocked = post(connection, "forbidden")
            blocked.read()
            (ours,) = blocked.headers.get_all("date")
            assert abs(parsedate_to_datetime(ours).timestamp() - time.time()) < 60
            assert blocked.headers.get_all("server") is None


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
def test_an_upgrade_that_nobody_wants_is_answered_and_does_not_outlive_the_server(file: Path, upgrade: str):
    with serving(file) as (process, connection):
        headers = {"upgrade": upgrade, "connection": "Upgrade", "content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", b'{"messages": []}', headers)
        answer = connection.getresponse()
        assert (answer.status, b"upgrade header" in answer.read()) == (400, True)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert "Traceback" not in errors


def test_the_server_does_not_write_down_who_asked_for_what():
    config = server(app=_never, host="127.0.0.1", port=0).config
    assert config.access_log is False
    assert config.server_header is False


async def _never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nobody asks")
