"""One judge, one upstream, two proxies (failing closed, failing open): the whole matrix is played once."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from guardrail.simulator.judge import classified
from tests.e2e.conftest import Proxies, Proxy, WordJudge, ruling, until
from tests.fakes import FakeServer, Say
from tests.fakes import Seen as Asked
from tests.matrix import node_clients
from tests.matrix.cells import WORDS, Action, Play
from tests.matrix.plays import DIALECTS, PLAYS, proxy_for
from tests.matrix.python_clients import KEY_HEADER, PythonClients, Seen

KEY = re.compile(r"k\d{4}z")


class MatrixJudge(WordJudge):
    """Answers by the words of the matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.words = {
            WORDS[Action.FLAG]: Say(ruling(1, "FLG")),
            WORDS[Action.REDACT]: Say(ruling(1, "RED", excerpts=[WORDS[Action.REDACT]])),
            WORDS[Action.BLOCK]: Say(ruling(1, "BLK")),
            WORDS[Action.CLOSED]: Say(drop=True),  # the connection is cut: asked again once, at once
        }


class MatrixUpstream(FakeServer):
    """Speaks every dialect: answers what the play named in the request's header wants."""

    def __init__(self) -> None:
        self.answers: dict[str, Say] = {}
        super().__init__(self._say)

    def _say(self, asked: Asked) -> Say:
        return self.answers[asked.headers[KEY_HEADER]]


@dataclass
class Played:
    """One play, seen from all sides: the client, the upstream, the judge, the audit file."""

    client: Seen
    upstream: list[Asked]
    judged: list[str]
    records: list[dict[str, Any]]


@dataclass
class Stage:
    """The servers of the matrix."""

    judge: MatrixJudge
    upstream: MatrixUpstream
    proxies: Mapping[str, Proxy]


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with MatrixJudge() as judge, MatrixUpstream() as upstream:
        proxies = Proxies(tmp_path_factory.mktemp("matrix"), judge, upstream)  # type: ignore[arg-type]  # any fake
        try:
            modes = {mode: proxies(on_error={"input": mode, "output": mode}) for mode in ("closed", "open")}
            yield Stage(judge, upstream, modes)
        finally:
            proxies.stop()


@pytest.fixture(scope="package")
def played(stage: Stage) -> dict[Play, Played]:
    """Every play; those of Node only where its packages are installed."""
    for play in PLAYS:
        if play.cell.dialect != "moderations":  # which the proxy answers itself
            stage.upstream.answers[play.key] = DIALECTS[play.cell.dialect].answer(play.cell)
    roots = {mode: proxy.root for mode, proxy in stage.proxies.items()}
    asked = {
        play: (proxy_for(play.cell), DIALECTS[play.cell.dialect].request(play))
        for play in PLAYS
        if play.client not in node_clients.CLIENTS or node_clients.missing() is None
    }
    node = {play: one for play, one in asked.items() if play.client in node_clients.CLIENTS}
    clients = PythonClients(roots)
    try:
        with node_clients.playing(roots, node) as playing:
            seen = clients.play({play: one for play, one in asked.items() if play not in node})
            seen |= playing()
    finally:
        clients.close()
    upstream, judged = defaultdict(list), defaultdict(list)
    for one in stage.upstream.seen:
        upstream[one.headers[KEY_HEADER]].append(one)
    for one in stage.judge.seen:
        content = one.json["messages"][-1]["content"]
        for key in set(KEY.findall(content)):
            judged[key].append(classified(content))
    records = _records(
        stage, {(own.headers["x-guardrail-id"], str(play.cell.stage)) for play, own in seen.items()}
    )
    return {
        play: Played(own, upstream[play.key], judged[play.key], records[own.headers["x-guardrail-id"]])
        for play, own in seen.items()
    }


def _records(stage: Stage, wanted: set[tuple[str, str]]) -> dict[str, list[dict[str, Any]]]:
    """What was recorded by id, once there is a record of each of these ids and stages.

    A stream is recorded when its client has all of it, and so may ask before.
    """
    records: dict[str, list[dict[str, Any]]] = {}

    def complete() -> bool:
        records.clear()
        for proxy in stage.proxies.values():
            for record in proxy.records():
                records.setdefault(record["id"], []).append(record)
        return {(one["id"], one["stage"]) for own in records.values() for one in own} >= wanted

    until(complete, "every play is recorded")
    return records
