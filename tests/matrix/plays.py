"""All plays of the matrix: every served or refused cell with every client that can play it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.matrix.cells import Action, Cell, Dialect, Play, every
from tests.matrix.chat import Chat
from tests.matrix.completions import Completions
from tests.matrix.embeddings import Embeddings
from tests.matrix.messages import CountTokens, Messages
from tests.matrix.moderations import Moderations
from tests.matrix.responses import Responses

_ALL: list[Dialect] = [
    Chat(),
    Completions(),
    Responses(),
    Messages(),
    CountTokens(),
    Embeddings(),
    Moderations(),
]
DIALECTS = {dialect.name: dialect for dialect in _ALL}
CELLS = [cell for name in DIALECTS for cell in every(name)]


def proxy_for(cell: Cell) -> str:
    """The fail mode of the proxy that a cell is played on."""
    return "open" if cell.action is Action.OPEN else "closed"


def _plays() -> Iterator[Play]:
    for cell in CELLS:
        dialect = DIALECTS[cell.dialect]
        if dialect.absent(cell) is None:
            for client in dialect.clients:
                yield Play(cell, client, "")


def numbered() -> list[Play]:
    """Each play with a key of its own; those that a client cannot play are left out."""
    found = [Play(play.cell, play.client, f"k{at:04}z") for at, play in enumerate(_plays())]
    return [play for play in found if DIALECTS[play.cell.dialect].lacks(play) is None]


PLAYS = numbered()
