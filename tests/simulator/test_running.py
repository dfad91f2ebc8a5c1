"""The twin of guardrail/simulator/running.py."""

from __future__ import annotations

import httpx
import pytest

from guardrail.simulator import JudgeSimulator, running


def test_it_is_served_while_the_block_lasts():
    with running(JudgeSimulator()) as url:
        assert httpx.get(f"{url}/models").json()["object"] == "list"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/models")
