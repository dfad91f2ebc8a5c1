"""The twin of guardrail/cli/config.py: validate a configuration, print its schema."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from guardrail.backends.policy_files import starter_policies
from guardrail.config import Config

GUARDRAIL = Path(sys.executable).with_name("guardrail")
GOOD = """
version: 1
upstream: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: "${GUARDRAIL_TEST_KEY}"}
policies: {directory: %s, input: [prompt-injection, pii], output: [pii]}
audit: {sinks: [{kind: jsonl, path: audit.jsonl}]}
"""


def config(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [GUARDRAIL, "config", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**os.environ, **environ},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "guardrail.yaml").write_text(GOOD % starter_policies())
    return tmp_path


class TestCheck:
    @pytest.mark.parametrize("named", [(), ("guardrail.yaml",)])
    def test_a_good_file_is_0_and_says_what_will_be_judged(self, folder: Path, named: tuple[str, ...]):
        done = config("check", *named, cwd=folder, GUARDRAIL_TEST_KEY="k")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "guardrail.yaml is valid (input: prompt-injection, pii; output: pii)\n"

    def test_it_opens_no_audit_file_and_asks_nobody(self, folder: Path):
        assert config("check", cwd=folder, GUARDRAIL_TEST_KEY="k").returncode == 0
        assert [file.name for file in folder.iterdir()] == ["guardrail.yaml"]

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("[pii]", "[]", None),
            ("[pii]", "[nobody]", "policies.output: no policy 'nobody'"),
            (
                "[pii]",
                "[prompt-injection]",
                "policies.output: prompt-injection is not written for this stage",
            ),
            ("version: 1", "version: 2", "version: "),
            ("version: 1", "version: 1\nsurprise: 1", "surprise: unknown key"),
            ("KEY}", "KEY_THAT_IS_NOT_SET}", "upstream.api_key: the environment variable "),
        ],
    )
    def test_a_bad_one_is_78_with_file_key_and_remedy(
        self, folder: Path, old: str, new: str, message: str | None
    ):
        file = folder / "guardrail.yaml"
        file.write_text(file.read_text().replace(old, new))
        done = config("check", cwd=folder, GUARDRAIL_TEST_KEY="k")
        if message is None:
            assert done.returncode == 0
            assert "output: none" in done.stdout
            return
        assert (done.returncode, done.stdout) == (78, "")
        assert done.stderr.startswith(f"guardrail: guardrail.yaml: {message}")
        assert done.stderr.count("\n") == 1

    def test_a_file_that_is_not_there_is_78(self, tmp_path: Path):
        done = config("check", "nowhere.yaml", cwd=tmp_path)
        assert done.returncode == 78
        assert done.stderr.startswith("guardrail: nowhere.yaml: cannot be read: ")


def test_the_schema_is_that_of_the_models(tmp_path: Path):
    done = config("schema", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == Config.model_json_schema()
