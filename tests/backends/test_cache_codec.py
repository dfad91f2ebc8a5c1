"""The twin of guardrail/backends/cache_codec.py."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.backends.cache_codec import Seal, known_fields, read_known, read_verdict, verdict_fields
from guardrail.core.history import Remembered
from guardrail.core.policy import Action, Effort, LabelRule, Policy
from guardrail.core.redaction import Span
from guardrail.core.verdict import Step, Usage, Verdict
from guardrail.errors import FailureCode

POLICY = Policy("p", "Body.", {"OK": LabelRule("OK", False), "BAD": LabelRule("BAD", True, Action.BLOCK)})
STEPS = (
    Step("a", Effort.LOW, "BAD", None, Usage(9), 4.0),
    Step("b", Effort.HIGH),
)
VERDICT = Verdict(
    POLICY, "BAD", True, judge="j", effort=Effort.LOW, steps=STEPS, usage=Usage(9), latency_ms=3
)

SCALAR = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(allow_nan=False)
JSON = st.recursive(
    SCALAR, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)


def through(verdict: Verdict, secret: str = "") -> Verdict | None:
    seal = Seal(secret)
    fields = verdict_fields(verdict)
    assert fields is not None
    opened = seal.unpack("n", seal.pack("n", fields))
    assert opened is not None
    return read_verdict(POLICY, opened[1])


@pytest.mark.parametrize("secret", ["", "s3cret"])
@pytest.mark.parametrize(
    "verdict",
    [VERDICT, Verdict(POLICY, None, False), Verdict(POLICY, "OK", False, judge="rules")],
)
def test_a_verdict_comes_back_without_its_cost(verdict: Verdict, secret: str):
    steps = tuple(replace(step, usage=None, latency_ms=0.0) for step in verdict.steps)
    assert through(verdict, secret) == replace(
        verdict, steps=steps, usage=None, latency_ms=0.0, cached=True
    )


def test_no_text_is_written():
    assert verdict_fields(replace(VERDICT, excerpts=("my text",))) is None
    assert verdict_fields(replace(VERDICT, spans=((0, Span(0, 3, "BAD")),))) is None
    assert known_fields(Remembered(spans=((0, 0, Span(0, 3, "BAD")),))) is None
    fields = verdict_fields(replace(VERDICT, rationale="because of my text"))
    assert b"my text" not in Seal().pack("n", fields or [])


def test_what_was_said_in_an_outage_is_not_shared():
    failed = Step("a", Effort.LOW, error=FailureCode.TIMEOUT)
    assert verdict_fields(replace(VERDICT, steps=(failed,))) is None
    assert verdict_fields(replace(VERDICT, reduced=True)) is None


@pytest.mark.parametrize("known", [Remembered(), Remembered(blocked=True, dropped=(2, 3))])
def test_history_comes_back(known: Remembered):
    assert read_known(known_fields(known) or []) == known


class TestSeal:
    @pytest.mark.parametrize(("writer", "reader"), [("", "s"), ("s", ""), ("s", "t")])
    def test_another_secret_opens_nothing(self, writer: str, reader: str):
        assert Seal(reader).unpack("n", Seal(writer).pack("n", ["x"])) is None

    @pytest.mark.parametrize("secret", ["", "s"])
    def test_a_value_counts_under_its_own_name_only(self, secret: str):
        seal = Seal(secret)
        assert seal.unpack("other", seal.pack("n", ["x"])) is None

    @given(st.integers(0, 200), st.integers(1, 255))
    def test_no_byte_of_a_signed_value_can_be_changed(self, at: int, by: int):
        value = bytearray(Seal("s").pack("n", ["x"]))
        value[at % len(value)] ^= by
        assert Seal("s").unpack("n", bytes(value)) is None

    def test_names_are_unguessable_with_a_secret_and_differ_by_kind(self):
        assert Seal().name("v", "abc") == "guardrail:v:abc"
        assert Seal(prefix="x:").name("h", "abc") == "x:h:abc"
        names = {Seal(secret).name(kind, "abc") for secret in "st" for kind in "vh"}
        assert len(names) == 4
        assert not any("abc" in name for name in names)

    def test_the_age_is_told(self):
        now = 1000.0
        seal = Seal(clock=lambda: now)
        value = seal.pack("n", [])
        now = 1002.5
        assert seal.unpack("n", value) == (2.5, [])
        now = 941.0  # the writer's clock is ahead, as far as clocks may differ
        assert seal.unpack("n", value) == (0.0, [])
        now = 900.0
        assert seal.unpack("n", value) is None

    @pytest.mark.parametrize("content", [{}, [], "x", ["now", 1], [None], [1.5], [9**17]])
    def test_json_that_is_no_value_of_ours_is_a_miss(self, content: object):
        body = orjson.dumps(content)
        assert Seal().unpack("n", b"\x01" + Seal()._mark("n", body) + body) is None

    def test_another_version_and_what_is_too_long_are_misses(self):
        value = Seal().pack("n", ["x"])
        assert Seal().unpack("n", b"\x02" + value[1:]) is None
        assert Seal().unpack("n", Seal().pack("n", ["x" * 20_000])) is None

    @given(st.binary(), st.sampled_from(["", "s"]))
    def test_garbage_is_a_miss(self, garbage: bytes, secret: str):
        seal = Seal(secret)
        assert seal.unpack("n", garbage) is None
        assert seal.unpack("n", b"\x01" + garbage) is None
        marked = b"\x01" + seal._mark("n", garbage) + garbage
        opened = seal.unpack("n", marked)
        assert opened is None or isinstance(opened[1], list)


FIELDS = verdict_fields(VERDICT) or []


@given(st.integers(0, len(FIELDS) - 1), JSON)
def test_any_field_of_any_kind_is_a_verdict_or_a_miss(at: int, value: object):
    fields = orjson.loads(orjson.dumps([*FIELDS[:at], value, *FIELDS[at + 1 :]]))
    verdict = read_verdict(POLICY, fields)
    assert verdict is None or verdict_fields(verdict) == fields


@given(JSON | st.tuples(JSON, st.lists(SCALAR)).map(list))
def test_any_fields_are_read_or_missed(value: object):
    fields = value if isinstance(value, list) else [value]
    assert read_verdict(POLICY, fields) is None
    known = read_known(fields)
    assert known is None or known_fields(known) == fields


@pytest.mark.parametrize(
    "fields",
    [
        [],
        FIELDS[:-1],
        [*FIELDS, 1],
        [*FIELDS[:3], "huge", *FIELDS[4:]],
        [*FIELDS[:4], [["j", "huge", None]]],
        [*FIELDS[:4], [["j", "low"]]],
        [*FIELDS[:4], ["step"]],
        ["BAD", 1, *FIELDS[2:]],
    ],
)
def test_another_shape_is_a_miss(fields: list[object]):
    assert read_verdict(POLICY, fields) is None


@pytest.mark.parametrize("fields", [[], [True], [1, []], [True, [True]], [True, ["1"]], [True, [], 0]])
def test_history_of_another_shape_is_a_miss(fields: list[object]):
    assert read_known(fields) is None
