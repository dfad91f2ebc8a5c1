"""The twin of guardrail/frontends/in_process.py: a configuration, or an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardrail.errors import ConfigError
from guardrail.frontends.exchange import Settings
from guardrail.frontends.in_process import opened
from guardrail.wire.chat_messages import read_messages
from tests.frontends.configs import written
from tests.frontends.test_filters import engine, user

pytestmark = pytest.mark.anyio


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path, "paths: {allow: [/v1/files]}", "limits: {max_body_bytes: 4321}")


async def test_a_file_gives_everything_and_is_closed(file: Path):
    guard = opened(file)
    assert (guard.settings.max_body_bytes, list(guard.allow)) == (4321, ["/v1/files"])
    chat = guard.engine.chat(read_messages([user("Hello")]))
    await chat.check_input(decision_id="d", dialect="here")
    await guard.aclose()
    assert '"d"' in (file.parent / "audit.jsonl").read_text()


async def test_what_is_given_stands_in_its_place(file: Path):
    settings = Settings(max_body_bytes=5)
    guard = opened(str(file), settings, allow=())
    assert (guard.settings, guard.allow) == (settings, ())
    await guard.aclose()


async def test_an_engine_is_taken_as_it_is():
    judging = engine()
    guard = opened(judging)
    assert guard.engine is judging
    assert (guard.settings, guard.allow) == (Settings(), ())
    assert opened(judging, allow=["/v1/files"]).allow == ["/v1/files"]
    await guard.aclose()


async def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(ConfigError, match="nowhere"):
        opened(tmp_path / "nowhere.yaml")
