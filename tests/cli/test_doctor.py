"""The twin of guardrail/cli/doctor.py: exit codes, the table and the JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from guardrail.cli import cli
from guardrail.errors import ConfigError
from guardrail.simulator import JudgeSimulator, Rule, running
from tests.fakes import FakeServer, Say

POLICY = """\
---
id: house
labels:
  OK: {violation: false}
  BAD: {violation: true, action: block}
---
Answer with one JSON object. Nothing forbidden.
"""
READS = [
    Rule("zebra-attack", '{"violation": 1, "label": "T1"}'),
    Rule("Approved by", '{"violation": 0, "label": "OK"}'),
    Rule("forbidden", '{"violation": 1, "label": "BAD"}'),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policies" / "house").mkdir(parents=True)
    (tmp_path / "policies" / "house" / "policy.md").write_text(POLICY)
    rows = [{"text": f"a forbidden thing {n}", "stage": "input", "label": "BAD"} for n in range(3)]
    golden = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "policies" / "house" / "golden.jsonl").write_text(golden)
    return tmp_path


def doctor(folder: Path, *arguments: str, **classifier: Any) -> Result:
    config = {
        "version": 1,
        "policies": {"input": ["house"]},
        "classifier": {"preset": "vllm", **classifier},
    }
    (folder / "guardrail.yaml").write_text(yaml.safe_dump(config))
    return CliRunner().invoke(cli, ["doctor", "-c", str(folder / "guardrail.yaml"), *arguments])


def test_a_safe_judge_is_0_and_a_table(folder: Path):
    with running(JudgeSimulator(rules=READS)) as url:
        found = doctor(folder, base_url=url)
    assert found.exit_code == 0, found.output
    for word in ("verdicts", "prefix cache", "policy house", "ok"):
        assert word in found.output


def test_an_unsafe_one_is_1(folder: Path):
    with running(JudgeSimulator()) as url:
        assert doctor(folder, base_url=url).exit_code == 1


def test_one_that_is_not_there_is_3(folder: Path):
    with FakeServer(Say()) as server:
        url = server.url
    assert doctor(folder, base_url=url).exit_code == 3


def test_without_a_judge_there_is_nothing_to_ask(folder: Path):
    found = doctor(folder, kind="embedded")
    assert found.exit_code == 0
    assert "no judge" in found.output


def test_as_json(folder: Path):
    with running(JudgeSimulator(rules=READS)) as one, running(JudgeSimulator(rules=READS)) as other:
        found = doctor(folder, "--json", base_url=[one, other])
    told = json.loads(found.stdout)
    assert len(told["judges"]) == 2
    for findings in told["judges"].values():
        assert findings[1].keys() == {"probe", "grade", "seen", "remedy"}
    assert told["attack"] == []


def test_two_judges_at_one_address_are_both_told(folder: Path):
    with running(JudgeSimulator(rules=READS)) as url:
        found = doctor(folder, "--json", base_url=url, fallback={"base_url": url, "model": "another"})
    names = list(json.loads(found.stdout)["judges"])
    assert names == [names[0], f"{names[0]} #2"]


def test_a_policy_that_is_not_there_is_named(folder: Path):
    (folder / "policies" / "house").rename(folder / "policies" / "other")
    text = POLICY.replace("house", "other")
    (folder / "policies" / "other" / "policy.md").write_text(text)
    found = doctor(folder)
    assert isinstance(found.exception, ConfigError)
    assert "policies.input: no policy 'house'" in str(found.exception)


def test_an_attack_tells_how_often_a_verdict_was_talked_away(folder: Path):
    with running(JudgeSimulator(rules=READS)) as url:
        found = doctor(folder, "--json", "--attack", "--cases", "2", base_url=url)
        rates = {(rate["policy"], rate["family"]): rate for rate in json.loads(found.stdout)["attack"]}
        assert found.exit_code == 0
        whole = rates["house", None]
        assert (whole["cases"], whole["bare"]) == (2, 2)
        assert whole["asked"] > 100 > 10 * whole["failed"]
        strict = doctor(folder, "--attack", "--max-flip-rate", "0", base_url=url)
    assert (strict.exit_code == 1) is (whole["flipped"] > 0)
    assert "attack" in strict.output
    assert whole["flipped"] > 0  # the judge above believes one of the payloads
