"""The twin of guardrail/engine/outbox.py: in which order events leave, and what keeps one back."""

from __future__ import annotations

from guardrail.core.conversation import Kind
from guardrail.core.redaction import Edit
from guardrail.core.release import StreamRules
from guardrail.core.stream import StreamGuard
from guardrail.engine.lanes import Lane
from guardrail.engine.outbox import Outbox, Ready
from tests.engine.pieces import Bit


def lane(choice: int = 0, *, whole: bool = False) -> Lane:
    return Lane(choice, "content", Kind.TEXT, whole, StreamGuard(StreamRules(), whole=whole))


def outbox(halted: dict | None = None, split=lambda event: ()) -> Outbox:
    return Outbox({} if halted is None else halted, split)


def texts(ready: list[Ready]) -> list:
    return [one.event for one in ready]


def test_events_leave_in_their_order_as_far_as_text_was_released():
    box, own = outbox(), lane()
    for at, event in enumerate(["ab", "cd", "ef"]):
        box.put(event, [(Bit(event), own, at * 2)], (0,), ())
    box.put("end", [], (0,), ())
    assert not box.leaves
    assert box.ready() == []
    own.released = 5  # the last one only in part
    assert box.leaves
    assert box.ready() == [Ready("ab", [], ()), Ready("cd", [], ())]
    assert box
    own.released = 6
    assert texts(box.ready()) == ["ef", "end"]
    assert not box


def test_it_is_told_when_text_left_first_and_last():
    box, own = outbox(), lane()
    box.put("no text", [], (0,), ())
    box.ready()
    assert box.first_left == box.last_left == 0
    own.released = 4
    for at in (0, 2):
        box.put("ab", [(Bit("ab"), own, at)], (0,), ())
        box.ready()
    assert 0 < box.first_left < box.last_left


def test_the_end_of_a_halted_choice_leaves_first_and_what_it_held_is_named():
    halted: dict[int, object] = {}
    box, own, other = outbox(halted), lane(), lane(1)
    box.put("both", [(Bit("ab"), own, 0), (Bit("xy", 1), other, 0)], (0, 1), ())
    other.released = 2
    assert not box.leaves
    halted[0] = "why"
    box.end(0)
    assert box.ready() == [Ready(None, [], (), 0), Ready("both", [], (0,))]


def test_a_change_is_made_piece_by_piece():
    parts = [("one", Bit("ab")), ("two", Bit("cd")), ("three", Bit("ef"))]
    box, own = outbox(split=lambda event: parts if event == "run" else ()), lane()
    own.edits.append(Edit(1, 4, "[X]"))
    box.put("run", [(Bit("abcdef"), own, 0)], (0,), ())
    box.put("single", [(Bit("gh"), own, 6)], (0,), ())
    own.released = 8
    assert box.ready() == [
        Ready("one", [(parts[0][1], "a[X]")], ()),
        Ready("two", [(parts[1][1], "")], ()),
        Ready("three", [], ()),
        Ready("single", [], ()),
    ]


def test_of_several_calls_none_leaves_before_all_were_judged():
    box, first, second = outbox(), lane(whole=True), lane(whole=True)
    for own in (first, second):
        box.expect(own)
        box.put("call", [(Bit("{}", whole=True), own, 0)], (0,), ())
    first.guard.close()
    assert first.guard.finished
    assert not box.leaves
    second.guard.close()
    assert texts(box.ready()) == ["call", "call"]


def test_an_event_waits_for_the_lanes_that_it_ends():
    halted: dict[int, object] = {}
    box, own = outbox(halted), lane()
    box.put("the end", [], (0,), [own])
    assert not box.leaves
    own.guard.close()
    assert texts(box.ready()) == ["the end"]
    box.put("another", [], (1,), [lane(1)])
    assert not box.leaves
    halted[1] = "why"
    assert box.leaves
