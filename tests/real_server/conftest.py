"""A real inference server for the tests of this folder: llama.cpp with a model of half a megabyte.

It needs the dependency group ``realserver`` and is skipped, saying so, where that is not installed.
``GUARDRAIL_REAL_SERVER=required`` turns the skip into an error: a CI that means to run these tests must
not go green without them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from guardrail.backends.judge import JudgeClassifier
from guardrail.backends.policy_files import load_policies
from guardrail.core.policy import Policy
from tests.real_server.asking import judging
from tests.real_server.processes import POLICIES, JudgeServer

StartServer = Callable[..., JudgeServer]


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, written for this run."""
    missing = [package for package in ("xllamacpp", "gguf") if find_spec(package) is None]
    if missing:
        reason = f"{' and '.join(missing)} not installed: pip install --group realserver"
        if os.environ.get("GUARDRAIL_REAL_SERVER") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    from tests.real_server.tiny_gpt_oss import write_gguf

    file = tmp_path_factory.mktemp("model") / "tiny-gpt-oss.gguf"
    write_gguf(file)
    return file


@pytest.fixture(scope="session")
def server(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JudgeServer]:
    """One server for all tests that leave it alive."""
    server = JudgeServer(model_file, tmp_path_factory.mktemp("server") / "server.log")
    server.start()
    pid = server.pid
    yield server
    died = server.wait_for_death(0)
    server.kill()
    assert died is None, f"process {pid} of the shared server ended by itself with {died}"


@pytest.fixture
def start_server(model_file: Path, tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers of this test's own, which it may kill."""
    servers: list[JudgeServer] = []

    def start(context: int = 16_384) -> JudgeServer:
        server = JudgeServer(model_file, tmp_path / f"server-{len(servers)}.log", context=context)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def http(server: JudgeServer) -> Iterator[httpx.Client]:
    """A plain client of the shared server."""
    with httpx.Client(base_url=server.root, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def arms() -> Policy:
    """The policy written for these tests: JSON answers, about 3,000 bytes."""
    return load_policies(POLICIES)["arms"]


@pytest.fixture
async def judge(server: JudgeServer) -> AsyncIterator[JudgeClassifier]:
    """guardrail's client of the shared server."""
    async with judging(server.url) as judge:
        yield judge
