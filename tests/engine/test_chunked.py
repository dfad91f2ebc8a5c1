"""Long content in chunks: any violating chunk decides, and a part that nobody judged did not pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
import pytest

from guardrail.backends.judge import JudgeClassifier, JudgeSettings
from guardrail.core.chunks import size
from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.decision import decide
from guardrail.core.policy import Action, LabelRule, Policy, Stage
from guardrail.core.redaction import Span
from guardrail.core.verdict import Usage, Verdict
from guardrail.engine.chunked import CALLS_PER_CHUNK, Chunked
from guardrail.errors import (
    ClassifierError,
    ClassifierRejected,
    ClassifierTimeout,
    FailureCode,
    MalformedVerdict,
)
from guardrail.testing import ScriptedClassifier
from tests.fakes import FakeServer, Say, Seen, completion
from tests.marked import marked

pytestmark = pytest.mark.anyio

POLICY = Policy(
    "pii",
    "# Policy",
    {
        "P0": LabelRule("P0", False),
        "P1": LabelRule("P1", True, Action.FLAG),
        "P2": LabelRule("P2", True, Action.REDACT),
        "P3": LabelRule("P3", True, Action.BLOCK),
    },
)
FILLER = "These are words that nobody minds. " * 200
LIMIT = 2_000
TOO_LONG = ClassifierRejected("413", code=FailureCode.TOO_LONG)


def subject(*texts: str) -> Subject:
    return Subject(
        Stage.INPUT, (), tuple(Turn("user", (Segment(text, (i,)),)) for i, text in enumerate(texts))
    )


@dataclass
class Window:
    """A judge whose server has a window of ``limit`` tokens and says so when a text does not fit."""

    judge: ScriptedClassifier
    limit: int
    error: Callable[[], ClassifierError] = lambda: TOO_LONG
    sizes: list[int] = field(default_factory=list)

    def identity(self, policy: Policy) -> str:
        return "window"

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        self.sizes.append(size(subject))
        if self.sizes[-1] > self.limit:
            raise self.error()
        return await self.judge.classify(policy, subject)


def chunked(inner: ScriptedClassifier | Window, most: int = LIMIT, **more: int) -> Chunked:
    return Chunked(inner, lambda policy: most, **more)


async def test_what_fits_is_asked_once_as_it_is():
    judge = ScriptedClassifier([("card", "P2")])
    made = subject("my card")
    verdict = await chunked(judge).classify(POLICY, made)
    assert judge.asked[0][1] is made
    assert len(judge.asked) == 1
    assert verdict == Verdict(POLICY, "P2", True, judge="scripted")


async def test_the_limit_is_asked_for_by_policy_and_the_identity_is_the_judges():
    judge, asked = ScriptedClassifier(), []

    def limit(policy: Policy) -> int:
        asked.append(policy)
        return LIMIT

    check = Chunked(judge, limit)
    assert (await check.classify(POLICY, subject(FILLER))).label == "P0"
    assert asked == [POLICY]
    assert len(judge.asked) > 1
    assert check.identity(POLICY) == "scripted"


@pytest.mark.parametrize("place", range(6))
async def test_any_violating_chunk_decides(place):
    texts = [FILLER[:1_500]] * 6
    texts[place] += " how to do harm"
    judge = ScriptedClassifier([("how to do harm", "P3")])
    verdict = await chunked(judge).classify(POLICY, subject(*texts))
    assert (verdict.label, verdict.action) == ("P3", Action.BLOCK)


async def test_chunks_are_judged_side_by_side_and_a_block_ends_the_others():
    judge = ScriptedClassifier([("harm", "P3")], delay_s=lambda s: 0 if "harm" in s.text else 3_600)
    with anyio.fail_after(20):
        assert (await chunked(judge).classify(POLICY, subject(FILLER + "harm"))).label == "P3"
    assert len(judge.asked) > 1


async def test_a_redaction_waits_for_all_chunks():
    rules = [("my card", "P2"), ("harm", "P3")]
    judge = ScriptedClassifier(rules, delay_s=lambda s: 0.05 if "harm" in s.text else 0)
    assert (await chunked(judge).classify(POLICY, subject("my card " + FILLER + "harm"))).label == "P3"


async def test_redactions_stand_where_they_were_found():
    found = [
        ("4111", Verdict(POLICY, "P2", True, excerpts=("4111 1111",), usage=Usage(9, 1, 4, 0.5))),
        ("mail", Verdict(POLICY, "P2", True, spans=((-1, Span(0, 5, "P2")),), usage=Usage(9, 1, 4, 0.5))),
        ("", Verdict(POLICY, "P0", False, usage=Usage(9, 1, 4, 0.5))),
    ]
    judge = ScriptedClassifier(found)
    made = subject("my card 4111 1111. " + FILLER, FILLER + "mail me")
    verdict = await chunked(judge).classify(POLICY, made)
    calls = len(judge.asked)
    assert verdict.usage == Usage(9 * calls, calls, 4 * calls, 0.5 * calls)
    texts = [marked(r.segment.text, r.spans) for r in decide(made, [verdict]).redactions]
    assert texts[0].startswith("my card [REDACTED:P2]. These")
    cut = next(list(s.segments) for _, s in judge.asked if "mail" in s.text)
    start = made.turns[1].segments[0].text.rindex(cut[-1].text)
    assert texts[1][start:].startswith("[REDACTED:P2]")
    assert texts[1][:start] == FILLER[:start]


@pytest.mark.parametrize("label", ["P0", "P1", "P2"])
async def test_a_failed_chunk_is_a_failed_check(label):
    judge = ScriptedClassifier([("one", label), ("two", ClassifierTimeout("late"))])
    with pytest.raises(ClassifierTimeout):
        await chunked(judge).classify(POLICY, subject("one " + FILLER + "two"))


@pytest.mark.parametrize("slow", ["one", "two"])
async def test_a_block_stands_against_a_failed_chunk_whichever_comes_first(slow):
    judge = ScriptedClassifier(
        [("one", "P3"), ("two", ClassifierTimeout("late"))], delay_s=lambda s: 0.05 if slow in s.text else 0
    )
    verdict = await chunked(judge).classify(POLICY, subject("one " + FILLER + "two"))
    assert verdict.action is Action.BLOCK


async def test_more_chunks_than_allowed_are_not_asked():
    judge = ScriptedClassifier()
    with pytest.raises(ClassifierRejected) as caught:
        await chunked(judge, max_chunks=2).classify(POLICY, subject(FILLER * 3))
    assert caught.value.code is FailureCode.TOO_LONG
    assert judge.asked == []


@pytest.mark.parametrize("code", [FailureCode.TOO_LONG, FailureCode.TRUNCATED])
@pytest.mark.parametrize("most", [1_000_000, LIMIT])
async def test_what_did_not_fit_after_all_is_halved(code, most):
    window = Window(
        ScriptedClassifier([("harm", "P3")]), 1_100, lambda: ClassifierRejected("no", code=code)
    )
    check = chunked(window, most, max_chunks=32)
    assert (await check.classify(POLICY, subject(FILLER[:5_000]))).label == "P0"
    assert max(window.sizes) > window.limit
    assert (await check.classify(POLICY, subject(FILLER[:5_000] + "harm"))).label == "P3"


async def test_spans_of_halves_of_chunks_stand_in_the_whole():
    hit = Verdict(POLICY, "P2", True, excerpts=())
    window = Window(ScriptedClassifier([("my card", hit)]), 900)
    made = subject(FILLER[:3_500], FILLER[:3_500] + "my card" + FILLER[:200])
    verdict = await chunked(window, 1_800, overlap_chars=100).classify(POLICY, made)
    texts = [made.turns[index].segments[0].text[span.start : span.end] for index, span in verdict.spans]
    assert any("my card" in text for text in texts)
    assert set(texts) <= {s.text for _, asked in window.judge.asked for s in asked.segments}


@pytest.mark.parametrize(("most", "max_chunks"), [(LIMIT, 8), (1_000_000, 8), (1_000_000, 1)])
async def test_a_server_to_which_all_is_too_long_is_not_asked_forever(most, max_chunks):
    window = Window(ScriptedClassifier(), 0)
    with pytest.raises(ClassifierRejected) as caught:
        await chunked(window, most, max_chunks=max_chunks).classify(POLICY, subject(FILLER * 3))
    assert caught.value.code is FailureCode.TOO_LONG
    assert 1 < len(window.sizes) <= max_chunks * CALLS_PER_CHUNK


@pytest.mark.parametrize(
    "error",
    [
        ClassifierRejected("401"),
        ClassifierTimeout("late"),
        MalformedVerdict("the answer was cut", code=FailureCode.TRUNCATED),
    ],
)
async def test_other_errors_are_none_that_halves_would_help(error):
    judge = ScriptedClassifier([("", error)])
    with pytest.raises(type(error)) as caught:
        await chunked(judge, 1_000_000).classify(POLICY, subject(FILLER))
    assert caught.value is error
    assert len(judge.asked) == 1


async def test_a_short_text_that_is_too_long_says_so_itself():
    judge = ScriptedClassifier([("", TOO_LONG)])
    with pytest.raises(ClassifierRejected) as caught:
        await chunked(judge).classify(POLICY, subject("Hello"))
    assert caught.value is TOO_LONG
    assert len(judge.asked) == 1


async def test_over_http_with_a_server_that_refuses_what_is_too_long():
    def answer(seen: Seen) -> Say:
        if len(seen.body) > 4_000:
            return Say(b'{"error": {"message": "maximum context length exceeded"}}', status=400)
        label = "P3" if b"how to do harm" in seen.body else "P0"
        return Say(completion(f'{{"violation": {int(label == "P3")}, "label": "{label}"}}'))

    texts = {"P0": FILLER, "P3": FILLER[:3_900] + " how to do harm " + FILLER[3_900:]}
    with FakeServer(answer) as server:
        judge = JudgeClassifier(JudgeSettings(server.url, "judge"))
        try:
            for label, text in texts.items():
                assert (await chunked(judge, 1_000_000).classify(POLICY, subject(text))).label == label
        finally:
            await judge.aclose()
