"""The twin of guardrail/cli/simulate.py: a real process, asked by our own client."""

from __future__ import annotations

from pathlib import Path

import httpx
from click.testing import CliRunner

from guardrail.cli import cli
from tests.e2e.conftest import console_script, free_port, start_process


def test_it_serves_what_it_says(tmp_path: Path):
    port = free_port()
    command = [console_script(), "simulate", "--port", str(port), "--speed", "0", "--odd-share", "0"]
    process = start_process([*command, "--rule", "bad=NO"], tmp_path / "log", port)
    try:
        message = "=== a user: classify this ===\na bad thing\n=== a end ==="
        body = {"messages": [{"role": "system", "content": "p"}, {"role": "user", "content": message}]}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body).json()
    finally:
        process.stop()
    assert answer["choices"][0]["message"]["content"] == "NO"
    assert f"base_url: 'http://127.0.0.1:{port}/v1'" in process.log


def test_a_rule_without_an_answer_is_wrong_usage():
    found = CliRunner().invoke(cli, ["simulate", "--rule", "bad"])
    assert found.exit_code == 2
    assert "TEXT=ANSWER" in found.output
