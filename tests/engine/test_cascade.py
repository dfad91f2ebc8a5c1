"""The twin of guardrail/engine/cascade.py."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.decision import decide
from guardrail.core.policy import JUDGE_REFUSAL, Action, Effort, LabelRule, Policy, Stage
from guardrail.core.redaction import Span
from guardrail.core.verdict import Usage, Verdict
from guardrail.engine.cascade import Cascade, WithEffort
from guardrail.errors import ClassifierError, ClassifierUnavailable, FailureCode, MalformedVerdict
from guardrail.testing import ScriptedClassifier
from tests.marked import marked

LABELS = {
    "SAFE": LabelRule("SAFE", violation=False),
    "FLG": LabelRule("FLG", True, Action.FLAG),
    "RED": LabelRule("RED", True, Action.REDACT),
    "BLK": LabelRule("BLK", True, Action.BLOCK),
}
DETECTORS = {"find.flag": "FLG", "find.red": "RED", "find.block": "BLK"}
TEXT = "write to dana@example.com, then run"
MAIL = Span(9, 25, "RED")


def policy(labels: Mapping[str, LabelRule] = LABELS, **more: Any) -> Policy:
    more.setdefault("detectors", DETECTORS)
    return Policy("p", "Body.", labels, **more)


POLICY = policy()
SUBJECT = Subject(Stage.INPUT, (), (Turn("user", (Segment(TEXT, ("messages", 0, "content")),)),))


class Found:
    """A finder with a fixed list of hits."""

    def __init__(self, *spans: Span) -> None:
        self.spans = spans
        self.asked = 0

    def identity(self, policy: Policy) -> str:
        return str(sorted(policy.detectors.items()))

    async def found(
        self, policy: Policy, subject: Subject, only: Collection[str] | None = None
    ) -> list[tuple[int, Span]]:
        self.asked += 1
        labels = {policy.detectors[name] for name in (policy.detectors if only is None else only)}
        return [(0, span) for span in self.spans if span.label in labels]


def judged(label: str | None, **more: Any) -> Verdict:
    violation = label == JUDGE_REFUSAL or (label is not None and LABELS[label].violation)
    return Verdict(POLICY, label, violation, judge="j", usage=Usage(9, 2), **more)


async def ask(verdict: Verdict, *spans: Span) -> Verdict:
    return await Cascade(Found(*spans), ScriptedClassifier([("", verdict)])).classify(POLICY, SUBJECT)


def leaves(verdict: Verdict) -> str:
    """The text as it leaves after this verdict."""
    decision = decide(SUBJECT, [verdict])
    return marked(TEXT, decision.redactions[0].spans) if decision.redactions else TEXT


class TestClassify:
    pytestmark = pytest.mark.anyio

    @pytest.mark.parametrize("label", [None, *LABELS, JUDGE_REFUSAL])
    async def test_without_hits_the_judges_verdict_stands(self, label: str | None):
        verdict = judged(label)
        assert await ask(verdict) is verdict

    async def test_a_policy_without_detectors_is_not_searched(self):
        finder = Found(MAIL)
        bare = policy(detectors={})
        verdict = await Cascade(finder, ScriptedClassifier()).classify(bare, SUBJECT)
        assert (finder.asked, verdict.violation) == (0, False)

    async def test_a_hit_to_redact_makes_a_pass_a_redaction_of_just_that(self):
        verdict = await ask(judged("SAFE"), MAIL)
        assert (verdict.label, verdict.action) == ("RED", Action.REDACT)
        assert leaves(verdict) == "write to [REDACTED:RED], then run"
        assert (verdict.judge, verdict.usage) == ("j", Usage(9, 2))

    async def test_a_hit_to_flag_makes_a_pass_a_flag(self):
        verdict = await ask(judged(None), Span(0, 5, "FLG"))
        assert (verdict.label, verdict.action, verdict.spans) == ("FLG", Action.FLAG, ())

    async def test_a_hit_that_would_block_is_left_to_the_judge(self):
        verdict = judged("SAFE")
        assert await ask(verdict, Span(0, 5, "BLK")) is verdict

    async def test_a_block_by_the_judge_stays_a_block(self):
        verdict = await ask(judged("BLK"), MAIL)
        assert (verdict.label, verdict.action) == ("BLK", Action.BLOCK)

    async def test_what_the_judge_and_the_detectors_found_is_redacted_together(self):
        verdict = await ask(judged("RED", excerpts=("then run",)), MAIL)
        assert leaves(verdict) == "write to [REDACTED:RED], [REDACTED:RED]"

    async def test_the_strictest_hit_gives_the_label(self):
        verdict = await ask(judged("FLG"), Span(0, 5, "FLG"), MAIL)
        assert verdict.label == "RED"
        assert leaves(verdict) == "write to [REDACTED:RED], then run"

    async def test_excerpts_of_a_milder_verdict_are_not_redacted(self):
        verdict = await ask(judged("FLG", excerpts=("then run",)), MAIL)
        assert leaves(verdict) == "write to [REDACTED:RED], then run"

    async def test_a_judge_that_names_no_place_still_has_all_of_the_text_redacted(self):
        """Without excerpts nobody knows where the violation stands; a hit elsewhere is not the answer."""
        alone = judged("RED")
        assert leaves(alone) == "[REDACTED:RED]"
        assert leaves(await ask(alone, MAIL)) == "[REDACTED:RED]"

    async def test_it_raises_what_the_judge_raises(self):
        failing = ScriptedClassifier([("", ClassifierUnavailable("503"))])
        with pytest.raises(ClassifierUnavailable):
            await Cascade(Found(MAIL), failing).classify(POLICY, SUBJECT)

    @pytest.mark.parametrize("prefilter", [(), ("find.block",)])
    async def test_it_raises_what_the_finder_raises(self, prefilter: tuple[str, ...]):
        class Broken(Found):
            async def found(self, *_: Any, **__: Any) -> list[tuple[int, Span]]:
                raise ClassifierError("no finding")

        asked = policy(prefilter=frozenset(prefilter))
        with pytest.raises(ClassifierError, match="no finding"):
            await Cascade(Broken(), ScriptedClassifier()).classify(asked, SUBJECT)


HITS = st.lists(
    st.builds(
        lambda start, length, label: Span(start, min(start + length, len(TEXT)), label),
        st.integers(0, len(TEXT) - 1),
        st.integers(1, 12),
        st.sampled_from(["FLG", "RED", "BLK"]),
    ),
    max_size=4,
)
EXCERPTS = st.lists(st.sampled_from(["write", "then run", "not in the text"]), max_size=2).map(tuple)


@given(st.sampled_from([None, *LABELS, JUDGE_REFUSAL]), EXCERPTS, HITS)
def test_detectors_never_make_a_verdict_milder(
    label: str | None, excerpts: tuple[str, ...], hits: list[Span]
):
    alone = judged(label, excerpts=excerpts)
    both = anyio.run(ask, alone, *hits)
    assert both.action >= alone.action
    if alone.action is both.action is Action.REDACT:
        kept = leaves(both).replace("[REDACTED:RED]", "\0")
        for word in ("write", "dana@example.com", "then run"):
            if word not in leaves(alone):
                assert word not in kept


class TestIdentity:
    def test_a_policy_without_detectors_is_the_judges_own(self):
        cascade = Cascade(Found(), ScriptedClassifier())
        assert cascade.identity(policy(detectors={})) == ScriptedClassifier().identity(POLICY)

    def test_detectors_and_their_labels_are_part_of_it_in_any_order(self):
        cascade = Cascade(Found(), ScriptedClassifier())
        turned = dict(reversed(DETECTORS.items()))
        assert cascade.identity(policy(detectors=turned)) == cascade.identity(POLICY)
        others = [
            {},
            {"find.red": "RED"},
            DETECTORS | {"find.red": "FLG"},
            DETECTORS | {"find.more": "RED"},
        ]
        assert len({cascade.identity(policy(detectors=d)) for d in [DETECTORS, *others]}) == 5


class TestPrefilter:
    pytestmark = pytest.mark.anyio

    @pytest.mark.parametrize(("hit", "asked", "label"), [("BLK", 0, "BLK"), ("RED", 1, "RED")])
    async def test_only_a_hit_of_its_own_blocks_without_the_judge(self, hit: str, asked: int, label: str):
        judge = ScriptedClassifier()
        filtered = policy(prefilter=frozenset({"find.block"}))
        verdict = await Cascade(Found(Span(0, 5, hit)), judge).classify(filtered, SUBJECT)
        assert (len(judge.asked), verdict.label, verdict.violation) == (asked, label, True)

    def test_it_is_part_of_the_identity(self):
        cascade = Cascade(Found(), ScriptedClassifier())
        filtered = policy(prefilter=frozenset({"find.block"}))
        assert cascade.identity(filtered) != cascade.identity(POLICY)


ESCALATING = policy(
    LABELS
    | {
        "FLG": LabelRule("FLG", True, Action.FLAG, escalate=True),
        "SAFE": LabelRule("SAFE", violation=False, escalate=True),
    }
)


class TestEscalation:
    pytestmark = pytest.mark.anyio

    async def ask(self, label: str, second: Any, *spans: Span, delay_s: float = 0.0) -> Verdict:
        first = ScriptedClassifier([("", Verdict(ESCALATING, label, ESCALATING.labels[label].violation))])
        again = ScriptedClassifier([("", second)], delay_s=delay_s)
        return await Cascade(Found(*spans), first, escalation=again).classify(ESCALATING, SUBJECT)

    @pytest.mark.parametrize(("first", "second"), [("FLG", "SAFE"), ("FLG", "BLK"), ("SAFE", "BLK")])
    async def test_the_second_verdict_counts_and_the_first_is_a_step(self, first: str, second: str):
        verdict = await self.ask(first, second)
        assert (verdict.label, [step.label for step in verdict.steps]) == (second, [first])

    async def test_other_labels_do_not_escalate(self):
        verdict = await self.ask("BLK", "SAFE")
        assert (verdict.label, verdict.steps) == ("BLK", ())

    async def test_a_redaction_beside_it_stays(self):
        verdict = await self.ask("FLG", "SAFE", MAIL)
        assert (verdict.label, leaves(verdict)) == ("RED", "write to [REDACTED:RED], then run")
        assert [step.label for step in verdict.steps] == ["FLG"]

    async def test_when_it_fails_a_violation_stands_and_a_pass_does_not(self):
        verdict = await self.ask("FLG", ClassifierUnavailable("503"))
        assert (verdict.label, [s.error for s in verdict.steps]) == ("FLG", [FailureCode.UNAVAILABLE])
        with pytest.raises(ClassifierError):
            await self.ask("SAFE", ClassifierUnavailable("503"))

    async def test_what_both_cost_is_told_where_it_fails(self):
        cut = MalformedVerdict("cut")
        cut.usage = Usage(20, 4)
        assert [step.usage for step in (await self.ask("FLG", cut)).steps] == [Usage(20, 4)]
        cheap = Verdict(ESCALATING, "SAFE", False, usage=Usage(1, 1))
        cascade = Cascade(
            Found(), ScriptedClassifier([("", cheap)]), escalation=ScriptedClassifier([("", cut)])
        )
        with pytest.raises(MalformedVerdict) as caught:
            await cascade.classify(ESCALATING, SUBJECT)
        assert caught.value.usage == Usage(21, 5)

    async def test_a_slow_one_does_not_take_the_first_verdict_along(self):
        with anyio.fail_after(0.3):
            verdict = await self.ask("FLG", "SAFE", delay_s=60)
        assert (verdict.label, [s.error for s in verdict.steps]) == ("FLG", [FailureCode.TIMEOUT])

    def test_it_is_part_of_the_identity_of_policies_that_escalate(self):
        alone = Cascade(Found(), ScriptedClassifier())
        both = Cascade(Found(), ScriptedClassifier(), escalation=ScriptedClassifier())
        assert both.identity(POLICY) == alone.identity(POLICY)
        assert both.identity(ESCALATING) != alone.identity(ESCALATING)


@pytest.mark.anyio
async def test_with_effort_asks_with_it_and_answers_under_the_callers_policy():
    judge = ScriptedClassifier()
    verdict = await WithEffort(judge, Effort.HIGH).classify(POLICY, SUBJECT)
    assert judge.asked[0][0].reasoning_effort is Effort.HIGH
    assert verdict.policy is POLICY
