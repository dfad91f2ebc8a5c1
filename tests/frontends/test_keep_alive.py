"""The twin of guardrail/frontends/keep_alive.py: who is silent while text is held speaks up."""

from __future__ import annotations

import anyio
import pytest

from guardrail.frontends.keep_alive import KeepAlive

pytestmark = pytest.mark.anyio
EVERY_S = 0.005
BOUND_S = 10.0


class Stream:
    """What a keep-alive is told and asked, and what it said."""

    def __init__(self, *, held: bool) -> None:
        self.held = held
        self.asked = self.said = 0
        self.often = anyio.Event()  # asked three times

    def is_held(self) -> bool:
        self.asked += 1
        if self.asked >= 3:
            self.often.set()
        return self.held

    async def speak(self) -> None:
        self.said += 1


async def watched(stream: Stream, every_s: float = EVERY_S) -> None:
    own = KeepAlive(every_s, stream.is_held, stream.speak)
    with anyio.fail_after(BOUND_S):
        await stream.often.wait()
    await anyio.lowlevel.checkpoint()
    own.stop()


async def test_it_speaks_again_and_again_while_text_is_held():
    stream = Stream(held=True)
    await watched(stream)
    assert 2 <= stream.said <= stream.asked


async def test_it_is_quiet_where_nothing_is_held():
    stream = Stream(held=False)
    await watched(stream)
    assert stream.said == 0


async def test_what_was_written_puts_it_off(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr("guardrail.frontends.keep_alive.time.monotonic", lambda: now)
    stream = Stream(held=True)
    own = KeepAlive(EVERY_S, stream.is_held, stream.speak)
    own.wrote()
    other = Stream(held=False)
    now += EVERY_S / 2  # the clock stands still now: half of the interval has passed, and stays so
    watching = KeepAlive(0.0, other.is_held, other.speak)
    with anyio.fail_after(BOUND_S):
        await other.often.wait()
    assert stream.asked == 0
    own.stop()
    watching.stop()


async def test_once_stopped_it_neither_asks_nor_speaks():
    stream = Stream(held=True)
    await watched(stream)
    before = stream.asked, stream.said
    await watched(Stream(held=False))
    assert (stream.asked, stream.said) == before
