"""The catalogue: what is listed, and what is resolved, which is what the engine asks."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.addition import Addition
from guardrail.core.conversation import Conversation, Segment, Turn
from guardrail.core.policy import Action, FailMode, LabelRule, Mode, Policy, PolicySet, Stage
from guardrail.engine.check import GuardrailEngine
from guardrail.errors import UnreadableRequest
from guardrail.testing import ScriptedClassifier
from guardrail.wire.policies import WORDS, Catalogue, Query, Reason, listed, read_query, resolved

LABELS = {
    "OK": LabelRule("OK", False),
    "LOOK": LabelRule("LOOK", True, Action.FLAG),
    "STOP": LabelRule("STOP", True, Action.BLOCK, escalate=True),
}


def policy(policy_id: str, **changes: Any) -> Policy:
    return Policy(policy_id, f"Judge by {policy_id}.", LABELS, **changes)


OWN = policy("own", title="Own", version="1.2", covers={"STOP": ["hate"]}, detectors={"pii.email": "LOOK"})
MORE = policy("more")
ANSWERS = policy("answers", stages=frozenset({Stage.OUTPUT}))
SHADOW = policy("shadow", mode=Mode.SHADOW)
OFF = policy("off", mode=Mode.OFF)
ALL = [OWN, MORE, ANSWERS, SHADOW, OFF]
CATALOGUE = Catalogue(PolicySet(ALL), {Stage.INPUT: [OWN, OFF, SHADOW], Stage.OUTPUT: [OWN]})


def test_the_words_are_those_of_the_actions():
    assert list(WORDS) == [action.word for action in Action]


class TestResolve:
    def test_each_reason(self):
        asked = ["more", "answers", "off", "shadow", "own", "more"]
        assert CATALOGUE.resolve(Stage.INPUT, asked) == [
            (OWN, Reason.CONFIGURED),
            (OFF, Reason.OFF),
            (SHADOW, Reason.CONFIGURED),
            (MORE, Reason.ADDED),
            (ANSWERS, Reason.OTHER_STAGE),
        ]

    def test_an_unknown_id_is_refused(self):
        with pytest.raises(UnreadableRequest) as caught:
            CATALOGUE.resolve(Stage.OUTPUT, ["own", "nobody"])
        assert (caught.value.param, caught.value.status) == ("policies", 400)

    @pytest.mark.parametrize("stage", Stage)
    def test_a_mode_is_for_those_asked_for(self, stage: Stage):
        found = CATALOGUE.resolve(stage, ["shadow", "off"], Mode.ENFORCE)
        told = {policy.id: (policy.mode, reason) for policy, reason in found}
        there = Reason.CONFIGURED if stage is Stage.INPUT else Reason.ADDED
        assert told["shadow"] == (Mode.ENFORCE, there)
        assert told["off"] == (Mode.ENFORCE, Reason.ADDED)
        assert told["own"] == (Mode.ENFORCE, Reason.CONFIGURED)

    def test_a_milder_mode_is_refused(self):
        with pytest.raises(UnreadableRequest) as caught:
            CATALOGUE.resolve(Stage.INPUT, ["shadow", "more"], Mode.SHADOW)
        assert caught.value.param == "mode"

    @given(
        st.sampled_from(Stage),
        st.lists(st.sampled_from([p.id for p in ALL]), max_size=6),
        st.sampled_from([None, Mode.ENFORCE]),
    )
    def test_it_is_what_the_engine_asks(self, stage: Stage, asked: list[str], mode: Mode | None):
        classifier = ScriptedClassifier()
        engine = GuardrailEngine(CATALOGUE.configured, classifier, addable=CATALOGUE.known)
        engine = engine.adding([Addition(policy_id, mode) for policy_id in asked])
        turn = Turn("user", (Segment("a text", ("text",)),))

        async def check() -> None:
            if stage is Stage.INPUT:
                await engine.check_input(Conversation((turn,)))
            else:
                await engine.check_output(Conversation(()), turn)

        anyio.run(check)
        applying = (Reason.CONFIGURED, Reason.ADDED)
        judging = [p for p, reason in CATALOGUE.resolve(stage, asked, mode) if reason in applying]
        assert mode is not None or judging == CATALOGUE.judging(stage, asked)
        assert sorted((p.id, p.mode) for p, _ in classifier.asked) == sorted(
            (p.id, p.mode) for p in judging
        )


class TestBodies:
    def test_what_is_listed(self):
        found = json.loads(listed(CATALOGUE))["policies"]
        assert [one["id"] for one in found] == ["own", "more", "answers", "shadow", "off"]
        assert found[0] == {
            "id": "own",
            "title": "Own",
            "version": "1.2",
            "revision": OWN.revision,
            "stages": ["input", "output"],
            "configured": ["input", "output"],
            "labels": {
                "OK": {"violation": False, "action": "pass", "escalate": False, "covers": []},
                "LOOK": {"violation": True, "action": "flag", "escalate": False, "covers": []},
                "STOP": {"violation": True, "action": "block", "escalate": True, "covers": ["hate"]},
            },
            "mode": "enforce",
            "answer": "json",
            "effort": "low",
            "detectors": {"pii.email": "LOOK"},
        }
        assert (found[2]["stages"], found[2]["configured"]) == (["output"], [])
        assert b"Judge by" not in listed(CATALOGUE)

    def test_what_is_resolved(self):
        closed = GuardrailEngine({}, ScriptedClassifier()).fail_mode
        found = json.loads(resolved(Stage.INPUT, CATALOGUE.resolve(Stage.INPUT, ["answers"]), closed))
        assert found["stage"] == "input"
        assert [(p["id"], p["applies"], p["acts"], p["reason"]) for p in found["policies"]] == [
            ("own", True, True, "configured"),
            ("off", False, False, "off"),
            ("shadow", True, False, "configured"),
            ("answers", False, False, "other_stage"),
        ]
        assert found["policies"][0]["revision"] == OWN.revision
        assert found["policies"][2]["mode"] == "shadow"
        assert {policy["on_unavailable"] for policy in found["policies"]} == {"closed"}


class TestQuery:
    @pytest.mark.parametrize(
        ("query", "read"),
        [
            (b"stage=input", Query(Stage.INPUT)),
            (b"policies=a,b&stage=output", Query(Stage.OUTPUT, ("a", "b"))),
            (b"stage=output&policies=a%2Cb", Query(Stage.OUTPUT, ("a", "b"))),
            (b"stage=output&policies=", Query(Stage.OUTPUT, ("",))),
            (b"stage=input&mode=shadow", Query(Stage.INPUT, (), Mode.SHADOW)),
            (b"stage=input&on_unavailable=open", Query(Stage.INPUT, (), None, FailMode.OPEN)),
        ],
    )
    def test_sound_ones(self, query: bytes, read: Query):
        assert read_query(query) == read

    def test_as_a_request_would_name_them(self):
        query = Query(Stage.INPUT, ("a", "b"), Mode.ENFORCE, FailMode.CLOSED)
        assert query.additions == [
            Addition("a", Mode.ENFORCE, FailMode.CLOSED),
            Addition("b", Mode.ENFORCE, FailMode.CLOSED),
        ]

    @pytest.mark.parametrize(
        ("query", "param"),
        [
            (b"", "stage"),
            (b"stage=", "stage"),
            (b"stage=Input", "stage"),
            (b"stage=input&stage=input", "stage"),
            (b"stage=input&policies=a&policies=b", "policies"),
            (b"stage=input&policy=a", None),
            (b"stage=input&mode=monitor", "mode"),
            (b"stage=input&mode=shadow&mode=shadow", "mode"),
            (b"stage=input&on_unavailable=", "on_unavailable"),
            (b"stage=input\xff", None),
        ],
    )
    def test_others_are_refused(self, query: bytes, param: str | None):
        with pytest.raises(UnreadableRequest) as caught:
            read_query(query)
        assert caught.value.param == param

    @given(st.sampled_from(Stage), st.lists(st.text(min_size=1), min_size=1))
    def test_what_was_written_is_read(self, stage: Stage, ids: list[str]):
        whole = [one.replace(",", "") or "x" for one in ids]
        query = urlencode({"stage": stage.value, "policies": ",".join(whole)}, errors="replace").encode()
        read = read_query(query)
        assert read.stage is stage
        assert len(read.policies) == len(whole)
