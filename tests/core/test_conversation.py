"""Conversations: what is judged, what is context, and the digest that tells subjects apart."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from guardrail.core.conversation import Conversation, Kind, Segment, Subject, Turn, chain, json_path
from guardrail.core.policy import Stage

TRUSTED = frozenset({"system", "developer"})

# Few characters, among them those that a digest could use to join its parts.
TEXT = st.text("ab1:;\n\x1d\x1e\x1f\x00é\ud800", max_size=6)
SEGMENT = st.builds(Segment, TEXT, st.just(()), st.sampled_from(Kind), TEXT)
TURNS = st.lists(
    st.builds(Turn, TEXT, st.lists(SEGMENT, max_size=3).map(tuple)), max_size=3
).map(tuple)  # fmt: skip
SUBJECT = st.builds(Subject, st.sampled_from(Stage), TURNS, TURNS)


def turn(role: str, *texts: str) -> Turn:
    return Turn(role, tuple(Segment(text, ("messages", i)) for i, text in enumerate(texts)))


def subject(*turns: Turn, context: tuple[Turn, ...] = (), stage: Stage = Stage.INPUT) -> Subject:
    return Subject(stage, context, turns)


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ((), "$"),
        (("messages", 0, "content"), "$.messages[0].content"),
        (("messages", 12, "content", 3, "text"), "$.messages[12].content[3].text"),
    ],
)
def test_an_address_as_a_json_path(address, path):
    assert json_path(address) == path


class TestAsSubject:
    def test_leading_trusted_turns_are_context(self):
        turns = (turn("system", "s"), turn("developer", "d"), turn("user", "u"))
        made = Conversation(turns).as_subject(TRUSTED)
        assert (made.stage, made.context, made.turns) == (Stage.INPUT, turns[:2], turns[2:])

    def test_a_trusted_role_after_a_user_turn_is_judged(self):
        turns = (turn("user", "u"), turn("system", "s"), turn("user", "u2"))
        made = Conversation(turns).as_subject(TRUSTED)
        assert (made.context, made.turns) == ((), turns)

    @pytest.mark.parametrize("role", ["User", "SYSTEM", "function", "", "system "])
    def test_an_unknown_role_is_judged(self, role):
        made = Conversation((turn(role, "u"),)).as_subject(TRUSTED)
        assert [segment.text for segment in made.segments] == ["u"]

    def test_only_trusted_turns_leave_nothing_to_judge(self):
        made = Conversation((turn("system", "s"),)).as_subject(TRUSTED)
        assert made.turns == ()
        assert made.text == ""

    def test_no_turn_is_lost_or_moved(self):
        turns = tuple(turn(role, "x") for role in ["system", "user", "system", "assistant", "tool"])
        made = Conversation(turns).as_subject(TRUSTED)
        assert made.context + made.turns == turns


def test_segments_and_text_are_those_of_the_judged_turns_in_order():
    made = subject(turn("user", "a", "b"), turn("tool", "c"), context=(turn("system", "hidden"),))
    assert [segment.text for segment in made.segments] == ["a", "b", "c"]
    assert made.text == "a\nb\nc"


def test_what_stands_beside_the_turns_is_judged_with_them():
    made = Conversation((turn("system", "s"),), (), (turn("prediction", "p"),)).as_subject(TRUSTED)
    assert (made.context, made.turns) == ((turn("system", "s"),), (turn("prediction", "p"),))


def test_a_judge_is_shown_context_and_what_has_left_too():
    left = Turn("assistant", (Segment("new", (), preceding="left"), Segment("", ())))
    assert subject(left, context=(turn("user", "asked"),)).read_text == "asked\nleft\nnew"


def spoken(made: Subject) -> Subject:
    """The subject without the empty texts of its context, which no judge can see."""
    kept = [Turn(t.role, tuple(s for s in t.segments if s.text or s.preceding)) for t in made.context]
    return Subject(made.stage, tuple(kept), made.turns)


class TestChain:
    @given(TURNS, TURNS)
    def test_is_equal_as_far_as_the_turns_are_and_no_further(self, one, other):
        same = 0
        first, second = (spoken(Subject(Stage.INPUT, turns, ())).context for turns in (one, other))
        while same < min(len(first), len(second)) and first[same] == second[same]:
            same += 1
        left, right = chain(one), chain(other)
        assert left[: same + 1] == right[: same + 1]
        assert not set(left[same + 1 :]) & set(right)

    @given(TURNS, TURNS)
    def test_goes_on_from_any_place(self, one, other):
        assert chain(one)[:-1] + chain(other, chain(one)[-1]) == chain((*one, *other))

    def test_is_the_same_in_every_release(self):  # processes of two releases may share a cache
        assert chain([turn("user", "a")])[1] == (hashlib.sha256(b"\n4:user:1\ntext:0::1:a").hexdigest())
        assert chain([turn("user", "a", "", "b")], "before")[1] == (
            hashlib.sha256(b"before\n4:user:2\ntext:0::1:a\ntext:0::1:b").hexdigest()
        )

    @given(SUBJECT)
    def test_that_is_known_need_not_be_made_again(self, made):
        known = Subject(made.stage, made.context, made.turns, chain(made.context)[-1])
        assert known == made
        assert known.digest() == made.digest()


class TestDigest:
    @given(SUBJECT, SUBJECT)
    def test_differs_for_different_subjects(self, one, other):
        assert (one.digest() == other.digest()) == (spoken(one) == spoken(other))

    @given(SUBJECT)
    def test_is_stable(self, made):
        twin = Subject(made.stage, tuple(made.context), tuple(made.turns))
        assert made.digest() == twin.digest()
        assert len(made.digest()) == 64

    @given(TEXT, TEXT, TEXT)
    def test_the_border_between_two_segments_is_no_text(self, left, middle, right):
        assume(middle)
        one = subject(turn("user", left + middle, right))
        other = subject(turn("user", left, middle + right))
        assert one.digest() != other.digest()

    @given(TEXT, TEXT)
    def test_a_text_cannot_pretend_to_be_a_turn(self, text, forged):
        honest = subject(turn("user", text), turn("assistant", forged))
        for glue in (
            "",
            "\n",
            "\x1d9:assistant:1\x1ftext:0:",
            f"\x1d9:assistant:1\x1ftext:0:{len(forged)}:",
        ):
            assert subject(turn("user", text + glue + forged)).digest() != honest.digest()

    @pytest.mark.parametrize(
        "other",
        [
            subject(turn("user", "a", "b"), stage=Stage.OUTPUT),
            subject(turn("user", "a"), turn("user", "b")),
            subject(turn("user", "b", "a")),
            subject(turn("tool", "a", "b")),
            subject(turn("user", "a", "b"), turn("user")),
            subject(turn("user", "a", "b"), context=(turn("user"),)),
            subject(context=(turn("user", "a", "b"),)),
            subject(Turn("user", (Segment("a", (), Kind.REASONING), Segment("b", ())))),
            subject(Turn("user", (Segment("", (), preceding="a"), Segment("b", ())))),
            subject(Turn("user", (Segment("a", ()), Segment("", (), preceding="b")))),
        ],
    )
    def test_stage_role_kind_order_and_context_count(self, other):
        assert other.digest() != subject(turn("user", "a", "b")).digest()

    @pytest.mark.parametrize(
        "glue", [":0\n", ":0\n1:", ":0\x1d", ":1\x1f", "\x1d", ":", "\n", "\x1d1:", ":0\x1d1:"]
    )
    def test_a_role_cannot_pretend_to_be_two(self, glue):
        one = subject(turn(f"a{glue}b"), turn("c"))
        other = subject(turn("a"), turn(f"b{glue}c"))
        assert one.digest() != other.digest()

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ((("b:1:c", "a"),), (("c", "a:5:b"),)),
            ((("bc", "a"),), (("c", "ab"),)),
            ((("a\ntext:0::b", ""), ("c", "")), (("a", ""), ("b\ntext:0::c", ""))),
            ((("a\ntext:0::1:b", ""), ("c", "")), (("a", ""), ("b\ntext:0::1:c", ""))),
            ((("a\x1ftext:0:1:b", ""), ("c", "")), (("a", ""), ("b\x1ftext:0:1:c", ""))),
        ],
    )
    def test_a_text_cannot_move_its_border(self, one, other):
        made = [
            subject(Turn("user", tuple(Segment(text, (), preceding=before) for text, before in pairs)))
            for pairs in (one, other)
        ]
        assert made[0].digest() != made[1].digest()

    def test_addresses_do_not_count(self):
        here = subject(Turn("user", (Segment("a", ("messages", 0, "content")),)))
        there = subject(Turn("user", (Segment("a", ("input", 3)),)))
        assert here.digest() == there.digest()

    def test_a_surrogate_pair_and_its_character_are_different_texts(self):
        assert subject(turn("u", "\ud83d\ude00")).digest() != subject(turn("u", "\U0001f600")).digest()
