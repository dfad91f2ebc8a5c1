"""The twin of guardrail/build/presidio.py: what the section asks for, and what policies may name then."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from guardrail.build import build_guard, load_guard
from guardrail.build.presidio import slow_detectors
from guardrail.config import PresidioConfig, load_config
from guardrail.core.conversation import Conversation, Segment, Turn
from guardrail.core.decision import Decision
from guardrail.core.policy import Action
from guardrail.core.redaction import Span
from guardrail.errors import ConfigError
from tests.presidio_pipeline import needs_presidio, write_pipeline

pytestmark = pytest.mark.anyio

POLICY = """\
---
id: names
labels:
  OK: {{violation: false}}
  NAME: {{violation: true, action: redact}}
detectors: {detectors}
---
Nobody is named.
"""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_pipeline(tmp_path_factory.mktemp("presidio") / "pipeline")


def write(folder: Path, *detectors: str, **keys: Any) -> Path:
    (folder / "policies" / "names").mkdir(parents=True)
    (folder / "policies" / "names" / "policy.md").write_text(POLICY.format(detectors=[*detectors]))
    whole = {
        "version": 1,
        "classifier": {"kind": "embedded"},
        "policies": {"input": ["names"]},
        **keys,
    }
    file = folder / "guardrail.yaml"
    file.write_text(yaml.safe_dump(whole))
    return file


async def decide(file: Path, text: str) -> Decision:
    guard = load_guard(file)
    try:
        return await guard.engine.check_input(Conversation((Turn("user", (Segment(text, ()),)),)))
    finally:
        await guard.aclose()


def test_without_the_section_there_are_none():
    assert slow_detectors(None) is None


def test_without_the_section_a_policy_that_names_one_is_told_to_add_it(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"guardrail\.yaml: policy names: .*add presidio: \{model"):
        load_guard(write(tmp_path, "presidio.person"))


def test_without_the_extra_its_name_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "guardrail.backends.presidio", raising=False)
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    file = write(tmp_path, "presidio.person", presidio={"model": "nobody_has_this_one"})
    with pytest.raises(ConfigError, match=r"pip install 'guardrail\[presidio\]'"):
        load_guard(file)


@needs_presidio
class TestWithPresidio:
    def test_an_unknown_name_is_told_with_all_there_are(self, tmp_path: Path, pipeline: str):
        file = write(tmp_path, "presidio.shoe", presidio={"model": pipeline})
        told = r"guardrail\.yaml: policy names: unknown detector .*pii\.email.*presidio\.person"
        with pytest.raises(ConfigError, match=told):
            load_guard(file)

    def test_a_pipeline_that_is_missing_is_named(self, tmp_path: Path):
        file = write(tmp_path, "presidio.person", presidio={"model": "./nothing"})
        with pytest.raises(ConfigError, match=r"guardrail\.yaml: presidio\.model: .*/nothing'"):
            load_guard(file)

    def test_it_is_loaded_once(self, tmp_path: Path):
        model = PresidioConfig(model=write_pipeline(tmp_path / "model"))
        first = slow_detectors(model)
        assert first is not None
        assert slow_detectors(PresidioConfig(model=model.model)) is first
        meta = tmp_path / "model" / "meta.json"
        written = meta.stat().st_mtime_ns + 10**9
        os.utime(meta, ns=(written, written))
        assert slow_detectors(model) is not first

    def test_a_configuration_that_is_read_again_has_the_same(self, tmp_path: Path, pipeline: str):
        file = write(tmp_path, "presidio.person", presidio={"model": pipeline})
        before = slow_detectors(load_config(file).presidio)
        build_guard(load_config(file))
        assert slow_detectors(load_config(file).presidio) is before

    async def test_what_it_finds_is_redacted_beside_the_rest(self, tmp_path: Path, pipeline: str):
        file = write(tmp_path, "presidio.person", "pii.email", presidio={"model": pipeline})
        decision = await decide(file, "Jane Doe of Lisbon is jane@example.com")
        spans = (Span(0, 8, "NAME", "person"), Span(22, 38, "NAME", "email"))
        assert [redaction.spans for redaction in decision.redactions] == [spans]

    async def test_it_may_be_restored(self, tmp_path: Path, pipeline: str):
        keys = {"redaction": {"strategy": "placeholder", "secret": "s" * 16}}
        guard = load_guard(write(tmp_path, "presidio.person", presidio={"model": pipeline}, **keys))
        asked = Conversation((Turn("user", (Segment("Hi, Jane Doe!", (0,)),)),))
        chat = guard.engine.chat(asked)
        decision = await guard.engine.check_input(asked)
        sent = chat.redacted(decision.redactions)[(0,)]
        assert sent.startswith("Hi, ")
        assert "Jane" not in sent
        answer = Turn("assistant", (Segment(f"So {sent[4:-1]} it is.", (1,)),))
        assert chat.delivered(answer, ())[(1,)] == "So Jane Doe it is."

    async def test_that_it_fails_is_a_failed_check(
        self, tmp_path: Path, pipeline: str, monkeypatch: pytest.MonkeyPatch
    ):
        def fail(text: str, _: list[str]) -> None:
            raise ValueError(text)

        slow: Any = slow_detectors(PresidioConfig(model=pipeline))
        monkeypatch.setattr(slow, "_analyze", fail)
        decision = await decide(
            write(tmp_path, "presidio.person", presidio={"model": pipeline}), "Jane Doe"
        )
        assert (decision.action, decision.degraded) == (Action.BLOCK, ("names=internal",))
        assert decision.unavailable
