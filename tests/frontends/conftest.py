"""A chat model on loopback, for the ways in that have one of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fakes import FakeUpstream


@pytest.fixture(scope="module")
def _server() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def upstream(_server: FakeUpstream) -> FakeUpstream:
    """It says ``Fine.``, and each test begins with one that has seen and been told nothing."""
    _server.seen.clear()
    _server.script.clear()
    _server.text, _server.pause_s = "Fine.", 0.0
    return _server


@pytest.fixture
def model(upstream: FakeUpstream) -> Iterator[Any]:
    """LangChain's ``ChatOpenAI`` in front of it."""
    from langchain_openai import ChatOpenAI

    with httpx.Client() as client:
        yield ChatOpenAI(
            model="m",
            base_url=upstream.url,
            api_key="k",
            max_retries=0,
            http_client=client,
        )
