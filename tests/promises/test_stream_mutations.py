"""The promises can fail: a guard that is broken on purpose breaks the promise named beside it.

A mutation is a piece of the guard's source (``stream.py`` of ``guardrail/core``, and what it asks of
``release.py`` and ``redaction.py`` there) and what is put in its place. The piece must stand there exactly
once: where the source changes, the mutation is to follow.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from guardrail.core import redaction, release, stream
from guardrail.core.release import StreamRules
from guardrail.core.stream import StreamGuard
from tests.promises import test_stream_promises as promises
from tests.promises.test_stream_promises import Guard, Promise

SOURCES = {
    module: Path(module.__file__).read_text(encoding="utf-8") for module in (stream, release, redaction)
}
PASSES = promises.all_of_a_text_that_passes_leaves
WHIMS = promises.whatever_the_judge_says_the_steps_are_right
REDACTS = promises.a_needle_to_be_redacted_never_leaves
BEYOND_ASCII = promises.the_same_with_text_beyond_ascii
BLOCKS = promises.of_a_needle_that_blocks_not_even_a_part_leaves
OUTSIDE = promises.seen_from_outside_alone_no_needle_leaves
LIVE = promises.in_live_mode_every_needle_is_found
RESTORES = promises.placeholders_are_turned_back_as_in_the_whole_text


class Mutation(NamedTuple):
    name: str
    before: str
    after: str
    breaks: Promise


MUTATIONS = [
    Mutation(
        "what is judged leaves without an overlap",
        "limit = self._judged - self._again",
        "limit = self._judged",
        OUTSIDE,
    ),
    Mutation(
        "one character too many leaves",
        "limit = self._judged - self._again",
        "limit = self._judged - self._again + 1",
        OUTSIDE,
    ),
    Mutation(
        "nothing is held back",
        "limit = self._judged - self._again",
        "limit = self._arrived",
        OUTSIDE,
    ),
    Mutation(
        "a check counts as settled when it is asked",
        "self._outstanding.append(check)",
        "self._outstanding.append(check)\n        self._judged = end",
        LIVE,
    ),
    Mutation(
        "a check is asked beside the one that runs",
        "return _NEVER if self._outstanding else self._due",
        "return self._due",
        PASSES,
    ),
    Mutation(
        "the first check does not wait for the overlap",
        "return rules.first + (0 if self._live else rules.overlap)",
        "return rules.first",
        PASSES,
    ),
    Mutation(
        "the next check waits for a window behind what left, not behind what was judged",
        "return self._judged + rules.window",
        "return self._released + rules.window",
        PASSES,
    ),
    Mutation(
        "release mode whole is not held to the close",
        "return _NEVER\n",
        "return rules.window\n",
        PASSES,
    ),
    Mutation(
        "windows end anywhere",
        "end = self._base + window_end(self._text, least - self._base)",
        "end = self._arrived",
        PASSES,
    ),
    Mutation(
        "a check without new text",
        "end if end > self._judged else self._arrived",
        "end",
        PASSES,
    ),
    Mutation(
        "in live mode a check begins where the one before ended",
        "return max(0, min(self._released, self._judged - self._again))",
        "return self._released",
        LIVE,
    ),
    Mutation(
        "unbroken runs are ignored",
        "if self.unbroken:",
        "if not self.unbroken:",
        OUTSIDE,
    ),
    Mutation(
        "a run is measured from its start",
        "_BREAK.search(read[::-1])",
        "_BREAK.search(read)",
        REDACTS,
    ),
    Mutation(
        "a run without a break is none",
        "run.start() if run is not None else len(read)",
        "run.start() if run is not None else 0",
        OUTSIDE,
    ),
    Mutation(
        "the check beside the last one begins too late",
        "max(0, end - self._tail(end))",
        "end",
        OUTSIDE,
    ),
    Mutation(
        "the check beside the last one knows the overlap alone",
        "max(0, end - self._tail(end))",
        "max(0, end - self._rules.overlap)",
        OUTSIDE,
    ),
    Mutation(
        "one of two checks is enough",
        "if self._outstanding:\n            return _NOTHING\n        commands = self._advance()",
        "commands = self._advance()",
        OUTSIDE,
    ),
    Mutation(
        "the close releases what no check has read",
        "if self._live or (self._closed and self._all_judged):",
        "if self._live or self._closed:",
        OUTSIDE,
    ),
    Mutation(
        "the final check is left out",
        "read = self._read_whole if self._rules.final_check else self._judged",
        "read = self._judged",
        PASSES,
    ),
    Mutation(
        "the final check begins where the text is held",
        "start = 0 if self._rules.final_check else self._restart()",
        "start = self._restart()",
        PASSES,
    ),
    Mutation(
        "the final check begins with what the last one did not read",
        "commands.append(self._check(0, self._arrived))",
        "commands.append(self._check(end, self._arrived))",
        PASSES,
    ),
    Mutation(
        "a block is no halt",
        "if decision.action >= self._stops:",
        "if decision.action > self._stops:",
        OUTSIDE,
    ),
    Mutation(
        "in live mode a redaction does not halt",
        "self._stops = Action.REDACT if self._live else Action.BLOCK",
        "self._stops = Action.BLOCK",
        LIVE,
    ),
    Mutation(
        "text goes on arriving after a halt",
        "if self._halted:\n            return _NOTHING\n        if self._closed:",
        "if self._closed:",
        WHIMS,
    ),
    Mutation(
        "the second check settles after a halt",
        "if self._halted:\n            return _NOTHING\n        if decision",
        "if decision",
        OUTSIDE,
    ),
    Mutation(
        "what had left counts as dropped",
        "dropped, self._halted = self.held, True",
        "dropped, self._halted = self._arrived, True",
        WHIMS,
    ),
    Mutation(
        "a check forgets what the one before found",
        "self._spans = merge([*self._spans, *self._found(check, decision)])",
        "self._spans = tuple(self._found(check, decision))",
        OUTSIDE,
    ),
    Mutation(
        "what two checks found is not merged",
        "self._spans = merge([*self._spans, *self._found(check, decision)])",
        "self._spans = (*self._spans, *self._found(check, decision))",
        REDACTS,
    ),
    Mutation(
        "a finding is not moved to its place",
        "at = check.start\n",
        "at = 0\n",
        OUTSIDE,
    ),
    Mutation(
        "a finding is redacted where it has left",
        "start=max(at + span.start, self._released)",
        "start=at + span.start",
        WHIMS,
    ),
    Mutation(
        "a redaction that left is put once more",
        "self._spans = tuple(s for s in self._spans if s.start >= limit)",
        "self._spans = tuple(self._spans)",
        OUTSIDE,
    ),
    Mutation(
        "a redaction is cut in two",
        "if first < limit < last:",
        "if last < limit < first:",
        OUTSIDE,
    ),
    Mutation(
        "redactions that touch are parted",
        "(first if span.start == last else span.start), span.end\n        yield",
        "span.start, span.end\n        yield",
        REDACTS,
    ),
    Mutation(
        "a placeholder is cut in two",
        "limit = self._released + self._restorer.open_at(piece)",
        "self._restorer.open_at(piece)",
        RESTORES,
    ),
    Mutation(
        "a grapheme cluster is cut in two",
        "return self._base + boundary(self._text, limit - self._base)",
        "return limit",
        PASSES,
    ),
    Mutation(
        "clusters are looked for at another place",
        "boundary(self._text, limit - self._base)",
        "boundary(self._text, limit)",
        PASSES,
    ),
    Mutation(
        "what lies in front of a cut is not looked at again",
        "while limit > self._released and (before",
        "if limit > self._released and (before",
        BEYOND_ASCII,
    ),
    Mutation(
        "in live mode all that leaves counts as judged",
        "limit - max(start, min(self._judged, limit))",
        "limit - max(start, limit)",
        PASSES,
    ),
    Mutation(
        "the text is forgotten that is to be read again",
        "kept = self._restart() - self._rules.overlap",
        "kept = self._released",
        LIVE,
    ),
    Mutation(
        "the context is forgotten",
        "kept = self._restart() - self._rules.overlap",
        "kept = self._restart()",
        PASSES,
    ),
    Mutation(
        "the final check's text is forgotten",
        "if kept > self._base and not self._rules.final_check:",
        "if kept > self._base:",
        PASSES,
    ),
    Mutation(
        "what stands behind an opening is not held",
        "for opening, size in self.openings:",
        "for opening, size in ():",
        OUTSIDE,
    ),
    Mutation(
        "the last opening counts, not the first",
        "read.find(opening)",
        "read.rfind(opening)",
        REDACTS,
    ),
    Mutation(
        "in live mode what is passed on counts as judged",
        "self.unjudged_released += len(text)",
        "self.unjudged_released += 0",
        LIVE,
    ),
    Mutation(
        "in live mode what is passed on may end in a cluster",
        " == boundary(text, len(text)):",
        ":",
        PASSES,
    ),
    Mutation(
        "in live mode what is passed on overtakes what is held",
        "self.held == len(text) == boundary",
        "len(text) == boundary",
        PASSES,
    ),
    Mutation(
        "a redaction that is over counts as one that may go on",
        "first <= self._released and last >= self._judged",
        "first <= self._released",
        WHIMS,
    ),
]


def compiled(module: ModuleType, source: str) -> ModuleType:
    """The module, of another source."""
    made = ModuleType(module.__name__)
    exec(compile(source, "mutant", "exec"), made.__dict__)
    return made


def hold(promise: Promise, guard: Guard, examples: int) -> None:
    """Raises ``AssertionError`` if the guard breaks the promise in any of that many ways to play it."""

    @settings(
        max_examples=examples,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def played(data: st.DataObject) -> None:
        promise(guard, data)

    played()


@pytest.mark.parametrize("promise", promises.PROMISES, ids=lambda promise: promise.__name__)
def test_the_source_as_it_is_holds(promise: Promise) -> None:
    hold(promise, compiled(stream, SOURCES[stream]).StreamGuard, 100)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_broken_guard_is_found_out(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {module: source.count(mutation.before) for module, source in SOURCES.items()}
    assert sum(counts.values()) == 1, "the mutation does not fit the source"
    broken = next(module for module, count in counts.items() if count)
    mutant = compiled(broken, SOURCES[broken].replace(mutation.before, mutation.after))
    guard: Guard = StreamGuard
    if broken is stream:
        guard = mutant.StreamGuard
    elif broken is release:
        monkeypatch.setattr(StreamRules, "tail", mutant.StreamRules.tail)
    else:
        monkeypatch.setattr(stream, "touching", mutant.touching)
    with pytest.raises(AssertionError):
        hold(mutation.breaks, guard, 3000)
