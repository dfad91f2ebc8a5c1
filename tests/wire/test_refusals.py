"""The twin of guardrail/wire/refusals.py: who is refused how, and in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.conversation import Segment, Subject, Turn
from guardrail.core.decision import Decision, decide
from guardrail.core.policy import Action, LabelRule, Policy, Stage
from guardrail.core.verdict import Verdict
from guardrail.wire.refusals import RefusalRule, Refusals, Refusing, key_digest
from guardrail.wire.replies import Refusal

ERROR = Refusal(style="error", status=403)
LABELS = {"OK": LabelRule("OK", violation=False), "NO": LabelRule("NO", True, Action.BLOCK)}


def policy(policy_id: str = "p", **texts: str) -> Policy:
    return Policy(policy_id, "Judge.", LABELS, refusal={k.replace("_", "-"): v for k, v in texts.items()})


def blocked(*violated: Policy, passed: tuple[Policy, ...] = (), stage: Stage = Stage.INPUT) -> Decision:
    subject = Subject(stage, (), (Turn("user", (Segment("x", ()),)),))
    findings = [Verdict(own, "OK", violation=False) for own in passed]
    return decide(subject, findings + [Verdict(own, "NO", violation=True) for own in violated])


class TestRules:
    def test_without_rules_the_stage_decides(self):
        refusing = Refusals({Stage.INPUT: ERROR, Stage.OUTPUT: Refusal()}).for_request("/v1/chat", [])
        assert refusing.of(blocked(policy())) == ERROR
        assert refusing.of(blocked(policy(), stage=Stage.OUTPUT)) == Refusal()

    @pytest.mark.parametrize(
        ("path", "headers", "fits"),
        [
            ("/v1/embeddings", [(b"authorization", b"Bearer k1")], True),
            ("/v1/embeddings/", [(b"Authorization", b"Bearer k1")], True),
            ("/v1/embeddings", [(b"x-api-key", b"k2")], True),
            ("/v1/embeddings", [(b"Api-Key", b"k2")], True),  # Azure's
            ("/v1/embeddings", [(b"authorization", b"bearer k1")], True),
            ("/v1/embeddings", [(b"authorization", b"BEARER  k1 ")], True),
            ("/v1/embeddings", [(b"authorization", b"k1")], True),
            ("/v1/embeddings", [(b"authorization", b"Basic k1")], False),
            ("/v1/embeddings", [(b"authorization", b"Bearer k3"), (b"api-key", b"k1")], True),
            ("/v1/embeddings", [(b"x-api-key", b""), (b"authorization", b"Bearer k1")], True),
            ("/v1/embeddings", [(b"x-key", b"k1")], False),
            ("/v1/chat/completions", [(b"api-key", b"k2")], False),
            ("/v1/embeddings", [(b"x-api-key", b"k3")], False),
            ("/v1/embeddings", [], False),
            ("/v1/chat/completions", [(b"x-api-key", b"k2")], False),
        ],
    )
    def test_a_rule_fits_its_paths_and_keys(self, path, headers, fits):
        keys = frozenset(map(key_digest, ["k1", "k2"]))
        rule = RefusalRule(dict.fromkeys(Stage, ERROR), frozenset({"/v1/embeddings"}), keys)
        refusing = Refusals(rules=(rule,)).for_request(path, headers)
        assert refusing.of(blocked(policy())) == (ERROR if fits else Refusal())

    def test_an_empty_header_is_no_key(self):
        rule = RefusalRule(dict.fromkeys(Stage, ERROR), keys=frozenset({key_digest("")}))
        refusals = Refusals(rules=(rule,))
        for header in (b"authorization", b"api-key"):
            assert refusals.for_request("/", [(header, b"")]).stages[Stage.INPUT] == Refusal()

    def test_the_first_that_fits_decides(self):
        first = RefusalRule(dict.fromkeys(Stage, ERROR), frozenset({"/a"}))
        every = RefusalRule(dict.fromkeys(Stage, Refusal(status=451)))
        refusals = Refusals(rules=(first, every))
        assert refusals.for_request("/a", []).stages[Stage.INPUT] == ERROR
        assert refusals.for_request("/b", []).stages[Stage.INPUT] == Refusal(status=451)

    def test_a_key_is_neither_kept_nor_shown(self):
        rule = RefusalRule({}, keys=frozenset({key_digest("sk-secret")}))
        assert "sk-secret" not in repr(rule)
        assert key_digest("sk-secret") not in repr(rule)


class TestWords:
    @pytest.mark.parametrize(
        ("accepted", "said"),
        [
            ("", "no"),
            ("de", "nein"),
            ("de-AT, fr", "nein"),
            ("DE", "nein"),
            ("pt-BR", "não"),
            ("pt", "no"),  # only the Brazilian is there
            ("ja, de;q=0.5", "no"),  # "no" may be Japanese
            ("en-US,en;q=0.9,de;q=0.3", "no"),
            ("de-AT,de;q=0.9,en;q=0.8", "nein"),
            ("en;q=0.8, de", "nein"),
            ("de, en", "nein"),  # alike: the first
            ("en, de", "no"),
            ("pt, pt-BR;q=0.9, de;q=0.8", "não"),
            ("pt, de;q=0.9, pt-BR;q=0.8", "no"),
            ("*, de;q=0.5", "no"),
            ("*;q=0.1, de;q=0.5", "nein"),
            (", de", "nein"),
            ("fr;Q=0.2, de;Q=0.4", "nein"),
            ("de;q=0.1, fr;q=0.9", "non"),
            ("fr;q=0, de;q=0.1", "nein"),
            ("de;q=no, fr", "non"),
            ("*", "no"),
            (";;,,q=1;-", "no"),
        ],
    )
    def test_the_best_for_the_client_is_said(self, accepted, said):
        words = {"de": "nein", "fr": "non", "pt-br": "não"}
        stages = dict.fromkeys(Stage, Refusal(message="no"))
        headers = [(b"accept-language", accepted.encode())]
        assert Refusals(stages, words=words).for_request("/", headers).of(blocked(policy())).message == said

    def test_the_words_of_the_policy_that_blocks_come_first(self):
        refusing = Refusing(dict.fromkeys(Stage, Refusal()), {"de": "nein"}, [(b"accept-language", b"de")])
        own = Policy("own", "Judge.", LABELS, refusal={"": "call us", "de": "ruf uns an"})
        plain = Policy("plain", "Judge.", LABELS, refusal={"": "call us"})
        assert refusing.of(blocked(own)).message == "ruf uns an"
        assert refusing.of(blocked(policy("a"), own)).message == "ruf uns an"
        assert refusing.of(blocked(plain)).message == "call us"
        assert refusing.of(blocked(policy("b"), passed=(own,))).message == "nein"
        assert refusing.of(blocked(policy("fr", fr="appelez"))).message == "nein"

    def test_its_own_plain_ones_are_for_who_likes_another_language_better(self):
        own = Policy("own", "Judge.", LABELS, refusal={"": "call us", "de": "ruf uns an"})
        for accepted, said in ((b"en, de;q=0.3", "call us"), (b"de, en;q=0.3", "ruf uns an")):
            refusing = Refusing(dict.fromkeys(Stage, Refusal()), {}, [(b"accept-language", accepted)])
            assert refusing.of(blocked(own)).message == said

    @given(st.text(max_size=40))
    def test_no_header_breaks_it(self, header):
        refusing = Refusing(
            dict.fromkeys(Stage, Refusal()),
            {"de": "nein"},
            [(b"accept-language", header.encode("latin-1", "replace"))],
        )
        assert refusing.of(blocked(policy())).message in ("nein", Refusal().message)
