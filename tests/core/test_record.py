"""Records: what a sink receives, with and without the judged text."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.coverage import Places
from guardrail.core.decision import Failure, decide
from guardrail.core.policy import Action, Effort, FailMode, LabelRule, Mode, Policy, Stage
from guardrail.core.record import DecisionRecord, Held, fingerprint, to_json
from guardrail.core.verdict import Step, Usage, Verdict
from guardrail.errors import FailureCode

TEXT = "my number is 0170-5550-1234"
LABELS = {"P0": LabelRule("P0", False), "P2": LabelRule("P2", True, Action.REDACT)}
PII = Policy("pii", "Judge personal data.", LABELS)
SECRETS = Policy("secrets", "Judge secrets.", LABELS, mode=Mode.SHADOW)
VIOLENCE = Policy("violence", "Judge violence.", LABELS)


def record(*findings, text: str = TEXT, unjudged: tuple[str, ...] = (), **changes) -> DecisionRecord:
    subject = Subject(Stage.INPUT, (), (Turn("user", (Segment(text, ()),)),))
    decision = decide(subject, findings, unjudged=unjudged, decision_id="gr-1")
    return DecisionRecord(decision, 1_700_000_000.123456, "chat", text, **changes)


JUDGED = Verdict(
    PII, "P2", True, excerpts=("0170-5550-1234",), rationale="a phone number", judge="safeguard",
    effort=Effort.HIGH, usage=Usage(900, 40, 812, 0.0001), latency_ms=81.26,
    steps=(
        Step("other", Effort.LOW, error=FailureCode.TIMEOUT, latency_ms=3000.04),
        Step("safeguard", Effort.LOW, "P0", usage=Usage(890, 30)),
    ),
)  # fmt: skip


def test_a_judged_finding():
    line = to_json(record(JUDGED), "fingerprint")
    assert line == {
        "id": "gr-1",
        "time": 1_700_000_000.123,
        "stage": "input",
        "dialect": "chat",
        "action": "redact",
        "degraded": False,
        "checks": 1,
        "findings": [
            {
                "policy": "pii",
                "revision": PII.revision,
                "action": "redact",
                "mode": "enforce",
                "judge": "safeguard",
                "effort": "high",
                "latency_ms": 81.3,
                "label": "P2",
                "status": "judged",
                "error": None,
                "reduced_coverage": False,
                "tokens": {"prompt": 900, "cached": 812, "completion": 40, "cost_usd": 0.0001},
                "steps": [
                    {
                        "judge": "other",
                        "effort": "low",
                        "label": None,
                        "error": "timeout",
                        "latency_ms": 3000.0,
                        "tokens": None,
                    },
                    {
                        "judge": "safeguard",
                        "effort": "low",
                        "label": "P0",
                        "error": None,
                        "latency_ms": 0.0,
                        "tokens": {"prompt": 890, "cached": None, "completion": 30, "cost_usd": None},
                    },
                ],
            }
        ],
        "unjudged": [],
        "coverage": None,
        "fingerprint": fingerprint(TEXT),
    }


def test_a_failed_check_is_unavailable_with_its_error_and_fail_mode():
    failure = Failure(VIOLENCE, FailureCode.TIMEOUT, FailMode.OPEN, judge="safeguard", latency_ms=5000.04)
    paid = replace(failure, usage=Usage(900, 40, 812, 0.25))
    line = to_json(record(failure), "none")
    assert line["degraded"] is True
    assert line["findings"] == [
        {
            "policy": "violence",
            "revision": VIOLENCE.revision,
            "action": "pass",
            "mode": "enforce",
            "judge": "safeguard",
            "effort": "low",
            "latency_ms": 5000.0,
            "label": None,
            "status": "unavailable",
            "error": "timeout",
            "fail_mode": "open",
            "tokens": None,
        }
    ]
    (found,) = to_json(record(paid), "none")["findings"]
    assert found["tokens"] == {"prompt": 900, "completion": 40, "cached": 812, "cost_usd": 0.25}


def test_a_cached_verdict_says_so_and_has_no_tokens():
    (finding,) = to_json(record(Verdict(PII, "P0", False, cached=True)), "none")["findings"]
    assert (finding["status"], finding["tokens"], finding["label"]) == ("cached", None, "P0")


def test_cached_tokens_that_were_not_reported_are_unknown_and_not_0():
    (finding,) = to_json(record(Verdict(PII, "P0", False, usage=Usage(900, 40))), "none")["findings"]
    assert finding["tokens"] == {"prompt": 900, "cached": None, "completion": 40, "cost_usd": None}


def test_a_verdict_of_rules_alone_degrades_the_record():
    line = to_json(record(Verdict(PII, "P0", False, reduced=True)), "none")
    assert line["degraded"] is True
    assert line["findings"][0]["reduced_coverage"] is True
    assert line["findings"][0]["effort"] is None  # nobody was asked


def test_a_shadow_finding_is_recorded_with_what_it_would_have_done():
    line = to_json(record(Verdict(SECRETS, "P2", True)), "none")
    assert line["action"] == "pass"
    assert (line["findings"][0]["action"], line["findings"][0]["mode"]) == ("redact", "shadow")


def test_unjudged_parts_are_named():
    assert to_json(record(unjudged=("$.messages[0].content[1]",)), "none")["unjudged"] == [
        "$.messages[0].content[1]"
    ]


def test_a_cancelled_request_has_no_action_that_took_effect():
    assert to_json(record(JUDGED, cancelled=True), "none")["action"] == "cancelled"


def test_a_stream_says_how_many_checks_it_took():
    assert to_json(record(JUDGED, checks=7), "none")["checks"] == 7


class TestContent:
    findings = (JUDGED, Verdict(VIOLENCE, "P0", False), Failure(SECRETS, FailureCode.AUTH, FailMode.CLOSED))

    def test_none_holds_neither_text_nor_fingerprint(self):
        line = to_json(record(*self.findings), "none")
        assert "fingerprint" not in line
        assert "0170" not in json.dumps(line)
        assert "phone" not in json.dumps(line)

    def test_fingerprint_holds_no_text(self):
        line = to_json(record(*self.findings), "fingerprint")
        assert line["fingerprint"] == fingerprint(TEXT)
        assert "0170" not in json.dumps(line)
        assert "phone" not in json.dumps(line)

    def test_full_holds_the_text_and_the_rationales_that_there_are(self):
        line = to_json(record(*self.findings), "full")
        assert line["text"] == TEXT
        assert line["fingerprint"] == fingerprint(TEXT)
        assert line["rationales"] == {"pii": "a phone number"}

    def test_a_printed_record_holds_no_judged_text(self):
        shown = repr(record(*self.findings))
        assert "0170" not in shown
        assert "phone number" not in shown


def test_a_stream_tells_how_it_was_held():
    assert "held" not in to_json(record(), "none")
    line = to_json(replace(record(), held=Held(0.12345, 1.5, 3)), "none")
    assert line["held"] == {"first_s": 0.123, "last_s": 1.5, "unjudged_released_chars": 3}


class TestFingerprint:
    def test_is_16_hex_digits_of_the_sha256(self):
        assert fingerprint("") == "e3b0c44298fc1c14"

    @given(st.text(), st.text())
    def test_tells_equal_texts_from_unequal_ones(self, one, other):
        assert (fingerprint(one) == fingerprint(other)) == (one == other)

    def test_takes_lone_surrogates(self):
        assert len(fingerprint("\ud800")) == 16


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("$.tools[0].function.parameters", "$.tools[0].function.parameters"),
        ("$.metadata.call me at 5550", "$.metadata.?"),
        ("$.metadata.müller[3].x", "$.metadata.?.x"),
        ("$." + "a" * 41, "$.?"),
    ],
)
def test_keys_of_the_callers_making_stand_in_no_record_without_content(path: str, shown: str):
    for content in ("none", "fingerprint"):
        assert to_json(record(unjudged=(path,)), content)["unjudged"] == [shown]
    assert to_json(record(unjudged=(path,)), "full")["unjudged"] == [path]


class TestCoverage:
    PLACES = Places((("messages", 1, "content"),), (("messages", 0, "content"),))

    def test_what_was_judged_redacted_and_skipped_by_path(self):
        assert to_json(record(JUDGED, places=self.PLACES), "none")["coverage"] == {
            "judged": ["$.messages[1].content"],
            "redacted": ["$"],
            "unchecked": [],
            "skipped": ["$.messages[0].content"],
        }

    @pytest.mark.parametrize("fail_mode", FailMode)
    def test_a_check_that_failed_has_judged_nothing(self, fail_mode: FailMode):
        failure = Failure(VIOLENCE, FailureCode.TIMEOUT, fail_mode)
        coverage = to_json(record(failure, JUDGED, places=self.PLACES), "none")["coverage"]
        assert (coverage["judged"], coverage["unchecked"]) == ([], ["$.messages[1].content"])

    def test_but_that_of_a_shadow_changes_nothing(self):
        failure = Failure(SECRETS, FailureCode.TIMEOUT, FailMode.CLOSED)
        coverage = to_json(record(failure, JUDGED, places=self.PLACES), "none")["coverage"]
        assert (coverage["judged"], coverage["unchecked"]) == (["$.messages[1].content"], [])

    @pytest.mark.parametrize("key", ["call me at 5550", "0170.5550", "m\u00fcller", "a" * 41, "a[0]"])
    def test_a_key_of_the_callers_making_is_not_shown(self, key: str):
        found = Places(((key, 3, "x"),), ())
        shown = [to_json(record(places=found), c)["coverage"]["judged"] for c in ("none", "full")]
        assert shown == [["$.?[3].x"], [f"$.{key}[3].x"]]
