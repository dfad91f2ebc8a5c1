"""Bodies and headers of our own: their status codes, what they tell, and what they never tell."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re

import openai
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guardrail.core.conversation import Conversation, Segment, Turn, json_path
from guardrail.core.coverage import Coverage
from guardrail.core.decision import Decision, Failure, Finding, decide
from guardrail.core.policy import Action, FailMode, LabelRule, Mode, Policy, Stage
from guardrail.core.redaction import Redaction
from guardrail.core.verdict import Verdict
from guardrail.errors import FailureCode
from guardrail.wire import replies
from guardrail.wire.replies import (
    JSON,
    Refusal,
    Reply,
    decision_headers,
    error_body,
    openai_error,
    refusal_error,
    refused_headers,
)

RATIONALE = "§rationale"
EXCERPT = "§excerpt"


def policy(name: str, mode: Mode = Mode.ENFORCE) -> Policy:
    labels = {
        "SAFE": LabelRule("SAFE", violation=False),
        "FLAGGED": LabelRule("FLAGGED", violation=True, action=Action.FLAG),
        "BAD": LabelRule("BAD", violation=True, action=Action.BLOCK),
    }
    return Policy(name, "The policy.", labels, mode=mode)


def verdict(name: str, label: str = "BAD", mode: Mode = Mode.ENFORCE, *, reduced: bool = False) -> Verdict:
    own = policy(name, mode)
    violation = own.labels[label].violation
    excerpts = (EXCERPT,) if violation else ()
    return Verdict(own, label, violation, excerpts=excerpts, rationale=RATIONALE, reduced=reduced)


def failure(name: str, fail_mode: FailMode = FailMode.CLOSED, *, violation: bool = False) -> Failure:
    return Failure(policy(name), FailureCode.TIMEOUT, fail_mode, violation=violation)


def decided(*findings: Finding, stage: Stage = Stage.INPUT, unjudged: tuple[str, ...] = ()) -> Decision:
    turn = Turn("user", (Segment("a text", ("messages", 0, "content")),))
    subject = dataclasses.replace(Conversation((turn,)).as_subject(frozenset()), stage=stage)
    return decide(subject, findings, unjudged=unjudged, decision_id="d-1")


class TestErrors:
    def test_an_error_is_in_openais_envelope(self):
        body = json.loads(error_body("the_code", "The message.", type_="the_type", param="n"))
        assert body == {
            "error": {"message": "The message.", "type": "the_type", "param": "n", "code": "the_code"}
        }
        assert json.loads(error_body("c", "m", type_="t"))["error"]["param"] is None

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, "invalid_request_error"),
            (403, "invalid_request_error"),
            (499, "invalid_request_error"),
            (500, "guardrail_error"),
            (502, "guardrail_error"),
            (503, "guardrail_error"),
        ],
    )
    def test_the_status_chooses_the_kind(self, status: int, kind: str):
        reply = openai_error(status, "the_code", "The message.", "the_param")
        assert reply.status == status
        assert reply.body == error_body("the_code", "The message.", type_=kind, param="the_param")
        assert reply.headers[0] == JSON

    def test_only_a_503_says_when_to_try_again_and_that_sdks_should_not(self):
        assert openai_error(503, "c", "m").headers == (
            JSON,
            (b"retry-after", b"5"),
            (b"x-should-retry", b"false"),
        )
        assert openai_error(502, "c", "m").headers == (JSON,)

    def test_every_status_of_ours_is_an_error_that_a_client_knows(self):
        statuses = {k: v for k, v in inspect.getmembers(replies) if k.isupper() and isinstance(v, int)}
        assert {
            "UNREADABLE": 400,
            "BLOCKED": 400,
            "TOO_SLOW": 408,
            "UNGUARDED": 403,
            "TOO_LARGE": 413,
            "MEDIA_TYPE_UNSUPPORTED": 415,
            "BAD_UPSTREAM": 502,
            "UNAVAILABLE": 503,
            "BUSY": 503,
            "NOT_READY": 503,
        }.items() <= statuses.items()


class TestRefusalError:
    def test_has_azures_shape_keyed_by_policy(self):
        decision = decided(
            verdict("bad"),
            verdict("fine", "SAFE"),
            verdict("flagged", "FLAGGED"),
            verdict("shadow", mode=Mode.SHADOW),
            failure("closed"),
            failure("open", FailMode.OPEN),
        )
        reply = refusal_error(decision, Refusal(message="No."))
        assert (reply.status, reply.headers) == (400, (JSON,))
        assert json.loads(reply.body) == {
            "error": {
                "message": "No.",
                "type": "invalid_request_error",
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {
                    "code": "ResponsibleAIPolicyViolation",
                    "content_filter_result": {
                        "bad": {"filtered": True, "detected": True},
                        "fine": {"filtered": False, "detected": False},
                        "flagged": {"filtered": False, "detected": True},
                        "shadow": {"filtered": False, "detected": True},
                        "closed": {"filtered": True, "detected": False},
                        "open": {"filtered": False, "detected": False},
                    },
                },
            }
        }

    def test_a_refused_answer_has_no_param_and_the_status_is_configurable(self):
        reply = refusal_error(decided(verdict("bad"), stage=Stage.OUTPUT), Refusal(status=422))
        error = json.loads(reply.body)["error"]
        assert (reply.status, error["status"], error["param"]) == (422, 422, None)

    def test_rationale_and_matched_text_never_reach_the_client(self):
        decision = decided(verdict("bad"), verdict("flagged", "FLAGGED"))
        texts = [
            refusal_error(decision, Refusal()).body,
            *[value for _, value in decision_headers(decision)],
        ]
        for text in texts:
            shown = text.decode() + json.dumps(json.loads(text)) if text[:1] == b"{" else text.decode()
            assert "rationale" not in shown
            assert "excerpt" not in shown


class TestDecisionHeaders:
    def test_a_pass_says_so_with_its_id_and_nothing_else(self):
        headers = decision_headers(decided(verdict("fine", "SAFE")))
        assert headers == [(b"x-guardrail-decision", b"pass"), (b"x-guardrail-id", b"d-1")]

    def test_without_a_decision_there_is_no_id(self):
        assert decision_headers() == [(b"x-guardrail-decision", b"pass")]

    @pytest.mark.parametrize(
        ("decisions", "expected"),
        [
            ([decided(verdict("bad"))], ("block", "bad", None, None)),
            ([decided(verdict("b"), verdict("a"), verdict("c", "FLAGGED"))], ("block", "a, b", None, None)),
            (
                [decided(verdict("fine", "SAFE")), decided(verdict("f", "FLAGGED"))],
                ("flag", "f", None, None),
            ),
            # Only the policies that ask for the strictest action are named, over both stages.
            ([decided(verdict("f", "FLAGGED")), decided(verdict("bad"))], ("block", "bad", None, None)),
            ([decided(verdict("s", mode=Mode.SHADOW))], ("pass", None, None, None)),
            ([decided(failure("p"))], ("block", "p", "p=timeout", None)),
            ([decided(failure("p", FailMode.OPEN))], ("pass", None, "p=timeout", None)),
            ([decided(verdict("p", "SAFE", reduced=True))], ("pass", None, "p=reduced-coverage", None)),
            ([decided(failure("p", FailMode.OPEN))] * 2, ("pass", None, "p=timeout", None)),
            (
                [decided(unjudged=("$.tools", "$.a")), decided(unjudged=("$.a", "$.b"))],
                ("flag", None, None, "$.tools, $.a, $.b"),
            ),
        ],
    )
    def test_what_was_decided_is_told(self, decisions: list[Decision], expected: tuple[str | None, ...]):
        names = ["decision", "policies", "degraded", "unjudged"]
        wanted = {
            f"x-guardrail-{name}": value
            for name, value in zip(names, expected, strict=True)
            if value is not None
        }
        headers = decision_headers(*decisions)
        told = {name.decode(): value.decode() for name, value in headers}
        assert len(told) == len(headers)
        assert told == wanted | {"x-guardrail-id": "d-1"}

    def test_the_first_decisions_id_is_the_requests(self):
        second = dataclasses.replace(decided(), id="d-2")
        assert (b"x-guardrail-id", b"d-1") in decision_headers(decided(), second)

    def test_a_request_refused_before_any_decision_is_a_block_with_its_id(self):
        assert refused_headers("d-1") == [(b"x-guardrail-decision", b"block"), (b"x-guardrail-id", b"d-1")]

    @given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
    @example(["a\r\nset-cookie: evil=1\r\n\r\n<html>"])
    @example(["\u0130\u010a\u010d\x00\x7f\x0b"])
    def test_a_clients_own_keys_cannot_break_out_of_a_header(self, keys: list[str]):
        paths = tuple(json_path(("messages", 0, key)) for key in keys)
        values = dict(decision_headers(decided(unjudged=paths)))
        assert re.fullmatch(rb"[ -~]+", values[b"x-guardrail-unjudged"])
        if all(re.fullmatch(r"[ -~]*", key) for key in keys):
            assert values[b"x-guardrail-unjudged"].decode() == ", ".join(dict.fromkeys(paths))

    def test_a_header_stays_short_however_many_paths_there_are(self):
        paths = tuple(f"$.messages[{index}].é" for index in range(10_000))
        value = dict(decision_headers(decided(unjudged=paths)))[b"x-guardrail-unjudged"]
        assert len(value) == 4000
        assert value.endswith(b"...")
        assert value.startswith(b"$.messages[0].?, $.messages[1].?, ")


class TestValues:
    def test_the_default_refusal_is_a_completion(self):
        refusal = Refusal()
        assert (refusal.style, refusal.finish_reason, refusal.status) == (
            "completion",
            "content_filter",
            400,
        )
        assert refusal.message == "I can't help with that."

    def test_a_reply_is_json_unless_it_says_otherwise(self):
        assert Reply(200, b"{}").headers == (JSON,)

    def test_the_openai_sdk_reads_the_error_code(self):
        body = json.loads(refusal_error(decided(verdict("bad")), Refusal()).body)
        error = openai.APIError("m", None, body=body["error"])  # type: ignore[arg-type]
        assert (error.code, error.param, error.type) == (
            "content_filter",
            "prompt",
            "invalid_request_error",
        )


class TestCoverage:
    def told(self, *decisions: Decision) -> str | None:
        value = dict(decision_headers(*decisions)).get(b"x-guardrail-coverage")
        return None if value is None else value.decode()

    def covered(self, *findings: Finding, read: int = 0, skipped: int = 0) -> Decision:
        return dataclasses.replace(decided(*findings), coverage=Coverage(read, skipped))

    def test_a_decision_that_covers_no_one_subject_tells_nothing(self):
        assert self.told(decided(verdict("fine", "SAFE"))) is None

    def test_all_decisions_are_counted_together(self):
        redaction = Redaction(Segment("a text", ("messages", 0, "content")), ())
        before = dataclasses.replace(
            self.covered(verdict("bad"), read=2, skipped=3),
            redactions=(redaction,),
            unjudged=("$.a", "$.b"),
        )
        after = self.covered(read=1)
        assert self.told(before, after) == "judged=3, redacted=1, unreadable=2, skipped=3"

    def test_of_a_stream_what_could_not_be_read(self):
        stream = decided(unjudged=("$.choices[0].delta.x",))
        assert self.told(self.covered(read=1), stream) == "judged=1, redacted=0, unreadable=1, skipped=0"

    @pytest.mark.parametrize("mode", FailMode)
    def test_what_could_not_be_checked_was_not_judged(self, mode: FailMode):
        failed = self.covered(failure("p", mode), verdict("bad"), read=2, skipped=1)
        told = "judged=1, redacted=0, unreadable=0, skipped=1, unchecked=2"
        assert self.told(self.covered(read=1), failed) == told

    def test_a_shadow_that_failed_leaves_it_judged(self):
        shadow = Failure(policy("s", Mode.SHADOW), FailureCode.TIMEOUT, FailMode.CLOSED)
        assert self.told(self.covered(shadow, read=1)) == "judged=1, redacted=0, unreadable=0, skipped=0"
