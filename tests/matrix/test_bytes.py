"""PASS changes no byte: what clients really send, respelled at random, arrives as it is; its answer too."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import Say
from tests.matrix.cells import Action, Play
from tests.matrix.conftest import Played, Stage
from tests.matrix.plays import DIALECTS
from tests.matrix.python_clients import KEY_HEADER

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
NUMBERS = itertools.count()
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
unknown = st.dictionaries(st.from_regex(r"x_[a-z]{1,8}", fullmatch=True), values, max_size=3)
blanks = st.lists(st.sampled_from(["", " ", "  ", "\t"]), min_size=1, max_size=7)
lines = st.lists(st.sampled_from(["", " ", "\n", "\r\n", "\t"]), min_size=1, max_size=7)


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a value, outermost first."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(inner)


@st.composite
def respelled(
    draw: st.DrawFn, body: bytes, blanks: st.SearchStrategy[list[str]], *, more: bool = True
) -> bytes:
    """The same JSON with fields that nobody knows, other spaces and other escapes."""
    value = json.loads(body)
    if more:
        draw(st.sampled_from(list(objects(value)))).update(draw(unknown))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    between = itertools.cycle(draw(blanks))
    return "".join(token + next(between) for token in TOKEN.findall(text)).encode()


@st.composite
def answers(draw: st.DrawFn, say: Say, *, more: bool) -> Say:
    """An answer of an upstream's, spelled anew; what is not JSON in a stream stays."""
    if say.chunks is None:
        return Say(draw(respelled(say.body, lines, more=more)), headers=say.headers)
    chunks = []
    for chunk in say.chunks:
        before, mark, data = chunk.partition(b"data: ")
        if data.startswith(b"{"):
            data = draw(respelled(data, blanks, more=more)) + b"\n\n"
        chunks.append(before + mark + data)
    return Say(headers=say.headers, chunks=chunks)


@pytest.fixture(scope="module")
def captured(played: dict[Play, Played]) -> dict[str, list[tuple[Play, bytes]]]:
    """What the clients sent in the plays that pass, by dialect."""
    found: dict[str, list[tuple[Play, bytes]]] = {}
    for play, own in played.items():
        if play.cell.action is Action.PASS and play.cell.dialect != "moderations":
            found.setdefault(play.cell.dialect, []).append((play, own.client.exchanges[0].sent))
    assert found.keys() == DIALECTS.keys() - {"moderations"}
    return found


@given(data=st.data())
def test_what_passes_is_the_same_to_the_byte(
    stage: Stage, captured: dict[str, list[tuple[Play, bytes]]], data: st.DataObject
) -> None:
    dialect = DIALECTS[data.draw(st.sampled_from(sorted(captured)))]
    play, sent = data.draw(st.sampled_from(captured[dialect.name]))
    raw = data.draw(respelled(sent, lines))
    say = data.draw(answers(dialect.answer(play.cell), more=dialect.reads))
    key = f"p{next(NUMBERS)}"
    stage.upstream.answers[key] = say
    headers = {"content-type": "application/json", KEY_HEADER: key}
    got = stage.proxies["closed"].http.post(f"/v1{dialect.path}", content=raw, headers=headers)
    assert got.status_code == 200, got.text
    [asked] = [one for one in stage.upstream.seen if one.headers[KEY_HEADER] == key]
    assert asked.body == raw
    assert got.content == (say.body if say.chunks is None else b"".join(say.chunks))
