"""The twin of guardrail/backends/embedded.py."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.backends.embedded import (
    DetectorClassifier,
    EmbeddedClassifier,
    QuickClassifier,
    verdict_of,
)
from guardrail.core.conversation import Kind, Segment, Subject, Turn
from guardrail.core.decision import decide
from guardrail.core.policy import Action, LabelRule, Policy, Stage
from guardrail.core.redaction import Span, apply
from guardrail.core.vault import Vault
from guardrail.errors import ClassifierError, PolicyError

pytestmark = pytest.mark.anyio

LABELS = {
    "OK": LabelRule("OK", violation=False),
    "FINE": LabelRule("FINE", violation=False),
    "FLG": LabelRule("FLG", True, Action.FLAG),
    "RED": LabelRule("RED", True, Action.REDACT),
    "BLK": LabelRule("BLK", True, Action.BLOCK),
}
MAIL = "dana@example.com"


def policy(**more: Any) -> Policy:
    more.setdefault("detectors", {"pii.email": "RED"})
    return Policy("p", "Body.", LABELS, **more)


POLICY = policy()


def subject(*segments: Segment | str) -> Subject:
    made = tuple(Segment(s, ("x", i)) if isinstance(s, str) else s for i, s in enumerate(segments))
    return Subject(Stage.INPUT, (), (Turn("user", made),))


def found(*segments: Segment | str, of: Policy = POLICY) -> list[tuple[int, Span]]:
    return DetectorClassifier([of]).find(of, subject(*segments))


class TestFind:
    def test_every_hit_with_its_segment_and_place(self):
        assert found("nothing", f"a {MAIL} b", f"{MAIL},{MAIL}") == [
            (1, Span(2, 18, "RED", "email")),
            (2, Span(0, 16, "RED", "email")),
            (2, Span(17, 33, "RED", "email")),
        ]

    def test_only_the_named_detectors_are_asked(self):
        both = policy(detectors={"pii.email": "RED", "pii.ip": "BLK"}, phrases={"hello": "FLG"})
        text = f"hello {MAIL} 93.184.216.34"
        for finder in (DetectorClassifier([both]), EmbeddedClassifier([both])):
            spans = finder.find(both, subject(text), {"pii.ip"})
            assert [(span.label, text[span.start : span.end]) for _, span in spans] == [
                ("BLK", "93.184.216.34")
            ]

    def test_only_judged_turns_are_searched(self):
        context = (Turn("system", (Segment(MAIL, ()),)),)
        whole = Subject(Stage.INPUT, context, (Turn("user", (Segment("hi", ()),)),))
        assert DetectorClassifier([POLICY]).find(POLICY, whole) == []

    def test_a_policy_without_detectors_finds_nothing(self):
        assert found(MAIL, of=policy(detectors={})) == []

    def test_each_detector_gives_the_label_of_the_policy(self):
        both = policy(detectors={"pii.email": "FLG", "pii.ip": "BLK"})
        assert found(f"{MAIL} 203.0.113.77", of=both) == [
            (0, Span(0, 16, "FLG", "email")),
            (0, Span(17, 29, "BLK", "ip")),
        ]

    @pytest.mark.parametrize("cut", range(1, len(MAIL)))
    def test_a_hit_that_began_in_text_that_has_left_covers_what_is_still_here(self, cut: int):
        segment = Segment(MAIL[cut:] + " and more", (), preceding="mail " + MAIL[:cut])
        hits = found(segment)
        assert hits == [(0, Span(0, len(MAIL) - cut, "RED", "email"))]

    def test_a_hit_in_text_that_has_left_is_none(self):
        assert found(Segment(" and more", (), preceding=MAIL)) == []
        assert found(Segment("", (), preceding=MAIL)) == []


class TestToolArguments:
    """JSON hides what it holds behind escapes; what a tool would read is what is searched."""

    @pytest.mark.parametrize(
        "raw",
        [
            r'{"to": "dana@example.com"}',
            r'{"to": "dana\u0040example.com"}',
            r'{"to": "\u0064\u0061\u006e\u0061\u0040\u0065xample.com"}',
            r'{"to": "dana@example\u002ecom", "n": 1}',
            r'{"a": {"b": ["x", "dana\u0040example.com"]}}',
            r'["\ud83d\ude00 dana\u0040example.com \"quoted\""]',
            r'"dana\u0040example.com"',
        ],
    )
    def test_a_hidden_mail_is_found_and_the_json_stays_valid(self, raw: str):
        segment = Segment(raw, ("x",), Kind.TOOL_ARGUMENTS)
        whole = subject(segment)
        hits = DetectorClassifier([POLICY]).find(POLICY, whole)
        assert len(hits) == 1
        decision = decide(whole, [verdict_of(POLICY, hits, reduced=True)])
        (redaction,) = decision.redactions
        made = apply(raw, Vault(b"key").redactions(segment, redaction.spans))
        kept = json.dumps(json.loads(made), ensure_ascii=False)
        assert "[REDACTED:RED]" in kept
        assert "example" not in kept

    def test_arguments_that_are_no_json_are_searched_as_they_are(self):
        hits = found(Segment(f'{{"to": "{MAIL}', (), Kind.TOOL_ARGUMENTS))
        assert hits == [(0, Span(8, 24, "RED", "email"))]

    def test_arguments_with_text_before_them(self):
        segment = Segment(r'{"to": "dana\u0040example.com"}', (), Kind.TOOL_ARGUMENTS, preceding="before")
        assert found(segment) == [(0, Span(8, 29, "RED", "email"))]


class TestVerdict:
    def test_no_hits_are_the_first_safe_label(self):
        verdict = verdict_of(POLICY, [], reduced=True)
        assert (verdict.label, verdict.violation, verdict.action) == ("OK", False, Action.PASS)
        assert (verdict.judge, verdict.reduced) == ("rules", True)

    def test_the_strictest_hit_gives_the_label_and_those_to_redact_the_spans(self):
        flag, red, block = Span(0, 1, "FLG"), Span(2, 3, "RED"), Span(4, 5, "BLK")
        for hits, label, spans in (
            ([flag], "FLG", ()),
            ([flag, red], "RED", ((0, red),)),
            ([red, block, flag], "BLK", ((0, red),)),
        ):
            verdict = verdict_of(POLICY, [(0, hit) for hit in hits], reduced=False)
            assert (verdict.label, verdict.violation, verdict.spans) == (label, True, spans)
            assert not verdict.reduced


class TestEmbedded:
    PHRASED = policy(phrases={"pipe bomb": "BLK", "blue (moon|sun)": "FLG"})

    async def test_phrases_and_detectors_decide_together(self):
        classifier = EmbeddedClassifier([self.PHRASED])
        for text, label in (
            ("a calm day", "OK"),
            ("under a BLUE   moon", "FLG"),
            (f"write to {MAIL} under a blue sun", "RED"),
            (f"a P\u00edpe B\u200bomb for {MAIL}", "BLK"),
        ):
            assert (await classifier.classify(self.PHRASED, subject(text))).label == label

    async def test_every_verdict_says_that_nobody_read_the_text(self):
        classifier = EmbeddedClassifier([POLICY])
        for text in ("fine", MAIL):
            verdict = await classifier.classify(POLICY, subject(text))
            assert verdict.reduced
            assert decide(subject(text), [verdict]).degraded == ("p=reduced-coverage",)

    @pytest.mark.parametrize("text", ["a\ud800b", "\udfff pipe bomb", f"\ud83d {MAIL}"])
    async def test_a_lone_surrogate_hides_nothing(self, text: str):
        verdict = await EmbeddedClassifier([self.PHRASED]).classify(self.PHRASED, subject(text))
        assert verdict.violation is ("pipe" in text or MAIL in text)

    async def test_phrases_are_found_behind_escapes_too(self):
        segment = Segment(
            r'{"to": "dana\u0040example.com", "x": "pipe\u0020bomb"}', (), Kind.TOOL_ARGUMENTS
        )
        verdict = await EmbeddedClassifier([self.PHRASED]).classify(self.PHRASED, subject(segment))
        assert verdict.label == "BLK"

    def test_its_identity_is_the_rules(self):
        twins = [policy(), policy(phrases={"x": "BLK"}), policy(phrases={"x": "FLG"}), policy(detectors={})]
        identities = [EmbeddedClassifier([one]).identity(one) for one in twins]
        assert len(set(identities)) == 4
        again = policy(phrases={"x": "BLK"})
        assert EmbeddedClassifier([again]).identity(again) == identities[1]
        assert all(one.startswith("embedded:") for one in identities)

    @given(
        st.lists(st.sampled_from([MAIL, "pipe bomb", "x", " ", "\ud800", "\u200b", "{", '"']), max_size=8)
    )
    async def test_spans_always_lie_in_their_segment(self, parts: list[str]):
        text = "".join(parts)
        for kind in Kind:
            for index, span in DetectorClassifier([POLICY]).find(POLICY, subject(Segment(text, (), kind))):
                assert index == 0
                assert 0 <= span.start < span.end <= len(text)


class Names:
    """Slow detectors that know one name, and one text that breaks them."""

    names = ("presidio.person", "presidio.location")

    def __init__(self, identity: str = "a") -> None:
        self.identity = identity
        self.asked: list[list[str]] = []

    async def find_all(self, names: Iterable[str], text: str) -> list[tuple[str, int, int]]:
        self.asked.append(sorted(names))
        if "broken" in text:
            raise ClassifierError("broken")
        at = text.find("Kim \u00d6")
        return [("presidio.person", at, at + 5)] if at >= 0 and "presidio.person" in self.asked[-1] else []


class TestSlowDetectors:
    BOTH = policy(
        detectors={"pii.email": "RED", "presidio.person": "BLK", "presidio.location": "FLG"},
        phrases={"pipe bomb": "BLK"},
    )

    async def test_their_hits_stand_behind_those_of_the_catalogue(self):
        finder = DetectorClassifier([self.BOTH], Names())
        texts = ["nobody", f"Kim \u00d6 has {MAIL}"]
        assert await finder.found(self.BOTH, subject(*texts)) == [
            (1, Span(10, 26, "RED", "email")),
            (1, Span(0, 5, "BLK", "person")),
        ]

    async def test_all_of_a_policy_share_one_pass_over_a_text(self):
        slow = Names()
        await DetectorClassifier([self.BOTH], slow).found(self.BOTH, subject("one", "two"))
        assert slow.asked == [["presidio.location", "presidio.person"]] * 2

    async def test_only_the_named_ones_are_asked(self):
        slow = Names()
        finder = DetectorClassifier([self.BOTH], slow)
        text = subject(f"Kim \u00d6 has {MAIL}")
        assert await finder.found(self.BOTH, text, {"pii.email"}) == [(0, Span(10, 26, "RED", "email"))]
        assert slow.asked == []
        assert await finder.found(self.BOTH, text, {"presidio.person"}) == [
            (0, Span(0, 5, "BLK", "person"))
        ]
        assert await finder.found(self.BOTH, text, {"presidio.location"}) == []
        assert slow.asked == [["presidio.person"], ["presidio.location"]]

    async def test_a_policy_that_names_none_is_not_held_up(self):
        slow = Names()
        assert await DetectorClassifier([POLICY], slow).found(POLICY, subject(MAIL)) == found(MAIL)
        assert slow.asked == []

    async def test_what_began_before_and_what_stands_in_json_is_placed_like_any_other(self):
        segments = (
            Segment(" \u00d6 and more", (), preceding="so Kim"),
            Segment(r'{"to": "Kim \u00d6"}', (), Kind.TOOL_ARGUMENTS),
        )
        hits = await DetectorClassifier([self.BOTH], Names()).found(self.BOTH, subject(*segments))
        assert hits == [(0, Span(0, 2, "BLK", "person")), (1, Span(8, 18, "BLK", "person"))]

    async def test_they_decide_with_the_rest(self):
        classifier = EmbeddedClassifier([self.BOTH], Names())
        for text, label in (("fine", "OK"), (MAIL, "RED"), ("Kim \u00d6", "BLK"), ("a pipe bomb", "BLK")):
            assert (await classifier.classify(self.BOTH, subject(text))).label == label

    async def test_that_they_fail_is_no_verdict(self):
        for text in ("broken", f"broken, and {MAIL}"):
            with pytest.raises(ClassifierError, match="broken"):
                await EmbeddedClassifier([self.BOTH], Names()).classify(self.BOTH, subject(text))

    async def test_where_the_time_is_up_they_are_left_out(self):
        slow = Names()
        classifier = QuickClassifier([self.BOTH], slow)
        for text, label in (("Kim \u00d6 is broken", "OK"), (MAIL, "RED"), ("a pipe bomb", "BLK")):
            verdict = await classifier.classify(self.BOTH, subject(text))
            assert (verdict.label, verdict.reduced) == (label, True)
        assert slow.asked == []

    def test_the_model_behind_them_is_part_of_the_identity_where_they_are_named(self):
        for kind in (DetectorClassifier, EmbeddedClassifier):
            for one, same in ((POLICY, True), (self.BOTH, False)):
                made = [kind([one], Names(identity)).identity(one) for identity in "aab"]
                assert made[0] == made[1]
                assert (made[0] == made[2]) is same
            assert kind([POLICY], Names()).identity(POLICY) == kind([POLICY]).identity(POLICY)


class TestStart:
    def test_an_unknown_detector_is_named_with_the_policy_and_those_that_exist(self):
        with pytest.raises(PolicyError, match=r"policy p: unknown detector 'pii\.shoe'.*pii\.email"):
            DetectorClassifier([policy(detectors={"pii.shoe": "RED"})])

    def test_a_slow_one_that_is_unknown_is_named_with_all_there_are(self):
        told = (
            r"policy p: unknown detector 'presidio\.shoe'.*pii\.email.*presidio\.location, presidio\.person"
        )
        with pytest.raises(PolicyError, match=told):
            DetectorClassifier([policy(detectors={"presidio.shoe": "RED"})], Names())

    def test_one_of_presidio_without_presidio_is_told_what_to_add(self):
        with pytest.raises(
            PolicyError, match=r"policy p: detector 'presidio\.person' .*add presidio: {model"
        ):
            DetectorClassifier([policy(detectors={"presidio.person": "RED"})])

    def test_a_bad_phrase_names_itself_and_its_policy(self):
        with pytest.raises(PolicyError, match=r"policy p: .*\(unclosed"):
            EmbeddedClassifier([policy(phrases={"(unclosed": "BLK"})])
