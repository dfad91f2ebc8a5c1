"""Every cell with every client: what the client saw, what the upstream got, what the judge was shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guardrail.frontends.middleware import DIALECTS as ROUTES
from tests.matrix import node_clients
from tests.matrix.cells import LEAD, Action, Cell, Choice, Feature, Play, Stage
from tests.matrix.conftest import Played
from tests.matrix.plays import CELLS, DIALECTS, PLAYS
from tests.matrix.python_clients import Seen

# What the AI SDK's user sees as the end of an answer.
AI_ENDS = {
    "stop": "stop",
    "completed": "stop",
    "tool_calls": "tool-calls",
    "content_filter": "content-filter",
    "incomplete": "content-filter",
}
DECISIONS = {
    Action.PASS: "pass",
    Action.FLAG: "flag",
    Action.REDACT: "redact",
    Action.BLOCK: "block",
    Action.OPEN: "pass",
    Action.CLOSED: "block",
}
UNCHANGED = (Action.PASS, Action.FLAG, Action.OPEN)
WHOLE = (b"[DONE]", b"response.completed", b"message_stop")  # how streams end that were not cut

# Plays that show a defect of the product, with the reason.
KNOWN: dict[str, str] = {}


def expected(play: Play) -> list[Choice]:
    choices = DIALECTS[play.cell.dialect].expected(play.cell)
    return [parsed(as_ai_sdk(own) if play.client == "ai-sdk" else own) for own in choices]


def as_ai_sdk(choice: Choice) -> Choice:
    """It gives refusals as text, and one set of reasons for every API."""
    own = {"text" if kind == "refusal" else kind: value for kind, value in choice.items()}
    if "end" in own:
        own["end"] = "tool-calls" if "tool" in own else AI_ENDS[own["end"]]
    return own


def parsed(choice: Choice) -> Choice:
    """Two JSON texts of arguments are the same if they mean the same."""
    return {kind: json.loads(value) if kind == "tool" else value for kind, value in choice.items()}


def shown(play: Play, seen: Seen) -> list[Choice]:
    if play.client == "ai-sdk":
        choices = seen.objects
    else:
        choices = DIALECTS[play.cell.dialect].read(seen.objects, play.cell)
    return [parsed(own) for own in choices]


def in_pieces(cell: Cell) -> bool:
    """Whether the head of a stream may leave before all of its text is decided: then it tells of less."""
    if not cell.streaming or cell.stage is Stage.INPUT:
        return False
    return cell.feature is Feature.LONG or len(DIALECTS[cell.dialect].choices(cell)) > 1


def halted(play: Play, choices: list[Choice]) -> bool:
    """Whether this is what is left of a long answer that was blocked after text had left."""
    cell = play.cell
    if not (cell.action is Action.BLOCK and cell.feature is Feature.LONG and in_pieces(cell)):
        return False
    [own], [refused] = choices, expected(play)
    return own["end"] == refused["end"] and bool(own["text"]) and LEAD.startswith(own["text"])


def code_of(error: Any) -> str:
    inner = error.get("error", error)
    return str(inner.get("code"))


def check_client(play: Play, seen: Seen) -> None:
    cell, dialect = play.cell, DIALECTS[play.cell.dialect]
    if dialect.refused(cell) is None:
        assert seen.status == 200, seen.error
        choices = shown(play, seen)
        assert choices == expected(play) or halted(play, choices)
    elif cell.action is Action.BLOCK:
        assert (seen.status, code_of(seen.error)) == (400, "content_filter")
    else:
        assert code_of(seen.error) == "guardrail_unavailable"
        if not in_pieces(cell):
            assert seen.status == 503
    assert len(seen.exchanges) == 1, "clients do not try again"
    got = bytes(seen.exchanges[0].got)
    if cell.action is Action.CLOSED:
        assert not any(end in got for end in WHOLE)
    if cell.action in (Action.REDACT, Action.BLOCK, Action.CLOSED):
        assert cell.word.encode() not in got


def check_headers(play: Play, seen: Seen) -> None:
    """The head of a stream that leaves before all is decided tells of the prompt alone."""
    cell, dialect = play.cell, DIALECTS[play.cell.dialect]
    headers, unjudged = seen.headers, dialect.unjudged(play)
    assert headers["x-guardrail-id"].startswith("gr-")
    assert headers.get("x-guardrail-unjudged", "") == ", ".join(unjudged)
    calm = "flag" if unjudged else "pass"
    if in_pieces(cell) and headers["x-guardrail-decision"] == calm:
        return
    decision = "block" if dialect.refused(cell) else DECISIONS[cell.action]
    assert headers["x-guardrail-decision"] == (calm if decision == "pass" else decision)
    failed = cell.action in (Action.OPEN, Action.CLOSED)
    assert headers.get("x-guardrail-degraded") == ("house=unavailable" if failed else None)
    if not failed:
        assert headers.get("x-guardrail-policies") == (None if cell.action is Action.PASS else "house")


def check_upstream(play: Play, played: Played) -> None:
    cell, dialect = play.cell, DIALECTS[play.cell.dialect]
    exchange = played.client.exchanges[0]
    stopped = cell.stage is Stage.INPUT and cell.action in (Action.BLOCK, Action.CLOSED)
    if stopped or cell.dialect == "moderations":
        assert played.upstream == []
        return
    [asked] = played.upstream
    assert asked.path == f"/v1{dialect.path}"
    if cell.stage is Stage.INPUT and cell.action is Action.REDACT:
        assert cell.word.encode() in exchange.sent
        assert asked.body == dialect.redacted(exchange.sent, cell)
        assert cell.word.encode() not in asked.body
    else:
        assert asked.body == exchange.sent
    say = dialect.answer(cell)
    if cell.stage is Stage.INPUT or cell.action in UNCHANGED:
        assert bytes(exchange.got) == (say.body if say.chunks is None else b"".join(say.chunks))
    elif cell.action is Action.REDACT and not cell.streaming:
        assert bytes(exchange.got) == dialect.delivered(say.body, cell)


def check_judge(play: Play, played: Played) -> None:
    """A long answer is judged in windows; the last holds its end."""
    cell = play.cell
    end = cell.told.removeprefix(LEAD)
    shown = {text for text in played.judged if cell.word in text}
    if cell.stage is Stage.INPUT:
        [text] = shown
        assert cell.asked in text
        answered = any(end in text for text in played.judged)
        assert answered is bool(played.upstream and DIALECTS[cell.dialect].reads)
    else:
        assert any(end in text for text in shown)
        assert len(shown) == 1 or in_pieces(cell)
        assert any(play.key in text for text in played.judged if text not in shown)


def check_records(play: Play, played: Played) -> None:
    cell = play.cell
    assert {record["dialect"] for record in played.records} == {cell.dialect}
    own = [record for record in played.records if record["stage"] == cell.stage]
    wanted = DECISIONS[cell.action]
    acting = [
        record
        for record in own
        if any(finding["action"] == wanted for finding in record["findings"])
        or cell.action in (Action.OPEN, Action.CLOSED)
    ]
    assert acting, played.records
    degraded = any(record["degraded"] for record in own)
    assert degraded is (cell.action in (Action.OPEN, Action.CLOSED))


def plays() -> list[Any]:
    marks = {str(play): pytest.mark.xfail(reason=KNOWN[str(play)]) for play in PLAYS if str(play) in KNOWN}
    assert marks.keys() == KNOWN.keys()
    return [pytest.param(play, id=str(play), marks=marks.get(str(play), ())) for play in PLAYS]


@pytest.mark.parametrize("play", plays())
def test_a_cell(play: Play, played: dict[Play, Played]) -> None:
    if play.client in node_clients.CLIENTS and (reason := node_clients.missing()):
        pytest.skip(reason)
    own = played[play]
    check_client(play, own.client)
    check_headers(play, own.client)
    check_upstream(play, own)
    check_judge(play, own)
    check_records(play, own)


@pytest.mark.parametrize("dialect", [name for name, own in DIALECTS.items() if own.reads])
@pytest.mark.parametrize("action", [Action.BLOCK, Action.CLOSED])
def test_long_streams_are_cut_in_the_middle(
    played: dict[Play, Played], dialect: str, action: Action
) -> None:
    cell = Cell(dialect, streaming=True, stage=Stage.OUTPUT, action=action, feature=Feature.LONG)
    cut = [own.client for play, own in played.items() if play.cell == cell]
    assert any(own.headers["x-guardrail-decision"] == "pass" for own in cut), "text left before the verdict"


class TestTheTable:
    def test_it_has_every_combination_of_every_route(self) -> None:
        routes = {dialect.name for dialect in ROUTES.values()} | {"moderations"}
        assert routes == set(DIALECTS)
        assert len(CELLS) == len(set(CELLS)) == len(DIALECTS) * 2 * 2 * 6 * 9

    def test_each_cell_is_played_or_says_why_not(self) -> None:
        played = {play.cell for play in PLAYS if play.client.endswith("python")}
        for cell in CELLS:
            assert (cell in played) is (DIALECTS[cell.dialect].absent(cell) is None), cell

    def test_a_client_that_cannot_play_says_why(self) -> None:
        seen = {(play.cell, play.client) for play in PLAYS}
        for cell in CELLS:
            for client in DIALECTS[cell.dialect].clients:
                play = Play(cell, client, "")
                absent = DIALECTS[cell.dialect].absent(cell) or DIALECTS[cell.dialect].lacks(play)
                assert ((cell, client) in seen) is (absent is None), play

    def test_no_two_plays_share_a_key(self) -> None:
        assert len({play.key for play in PLAYS}) == len(PLAYS)
