"""Placeholders are found in any spelling a model gives them, and nowhere else."""

# ruff: noqa: RUF001 - look-alike signs are the subject here
from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.placeholders import Found, code, codes, kind_of, spelling

CODE = "BCDFGHJK"
KNOWN = spelling(frozenset({"EMAIL", "PII2"}))


def found(text: str, **called) -> list[str]:
    return [text[hit.start : hit.end] for hit in KNOWN.find(text, **called)]


class TestWriting:
    @pytest.mark.parametrize(
        ("names", "kind"),
        [
            (("email", "PII2"), "EMAIL"),
            (("", "PII2"), "PII2"),
            (("us_ssn", "x"), "USSSN"),
            (("-", "judge-refusal"), "JUDGEREFUSAL"),
            (("straße", "x"), "STRASSE"),
            (("émail", "x"), "MAIL"),
            (("名", ""), "TEXT"),
            (("k" * 99, "x"), "K" * 24),
        ],
    )
    def test_a_kind_is_capitals_and_digits(self, names, kind):
        assert kind_of(*names) == kind

    @given(st.binary(min_size=32, max_size=32), st.integers(1, 16))
    def test_a_code_is_consonants(self, digest, length):
        letters = code(digest, length)
        assert len(letters) == length
        assert set(letters) <= set("BCDFGHJKLMNPQRSTVWXZ")

    def test_codes_hardly_ever_meet(self):
        made = {code(hashlib.sha256(b"%d" % number).digest()) for number in range(5_000)}
        assert len(made) == 5_000


class TestFinding:
    @pytest.mark.parametrize(
        "placeholder",
        [
            f"[EMAIL_{CODE}]",
            f"[email_{CODE.lower()}]",
            f"[Email_{CODE.title()}]",
            f"EMAIL_{CODE}",
            rf"EMAIL\_{CODE}",
            rf"[EMAIL\_{CODE}]",
            rf"\[EMAIL\_{CODE}\]",
            f"EMAIL-{CODE}",
            f"email {CODE.lower()}",
            f"EMAIL\u2011{CODE}",
            f"EMAIL\u202f{CODE}",
            f"【EMAIL_{CODE}】",
            f"［EMAIL_{CODE}］",
        ],
    )
    @pytest.mark.parametrize(
        "around",
        ["%s", "to %s.", "**%s**", "`%s`", "(%s)", "<%s>", "{%s}", '"%s"', "_%s_", "__%s__", "送到%s谢谢",
         "[EMAIL_ %s", "%s's", "a.%s@", "%s%%", "%s\n", "mailto:%s", "[x](mailto:%s)", "[ %s, "],
    )  # fmt: skip
    def test_every_spelling_is_found_with_its_brackets_and_nothing_else(self, placeholder, around):
        assert found(around % placeholder) == [placeholder]

    @pytest.mark.parametrize(
        ("text", "there"),
        [
            (f"[EMAIL_{CODE}](mailto:EMAIL_{CODE})", [f"EMAIL_{CODE}"] * 2),
            (f"[EMAIL_{CODE}](mailto:[EMAIL_{CODE}])", [f"EMAIL_{CODE}", f"[EMAIL_{CODE}]"]),
            (f"[[EMAIL_{CODE}]](x)", [f"[EMAIL_{CODE}]"]),
            (f"x[EMAIL_{CODE}]x", [f"[EMAIL_{CODE}]"]),
            (f"[EMAIL_{CODE}, PII2_{CODE}]", [f"EMAIL_{CODE}", f"PII2_{CODE}"]),
            (f"[EMAIL_{CODE}】", [f"EMAIL_{CODE}"]),
            (rf"\[EMAIL_{CODE}]", [f"[EMAIL_{CODE}]"]),
            (f"[EMAIL_{CODE}][PII2_{CODE}]", [f"[EMAIL_{CODE}]", f"[PII2_{CODE}]"]),
            (f"xEMAIL_{CODE} pii2_{CODE}", [f"pii2_{CODE}"]),
        ],
    )
    def test_which_brackets_go_with_it(self, text, there):
        assert found(text) == there

    @pytest.mark.parametrize(
        "text",
        [
            "",
            CODE,
            f"EMAIL{CODE}",
            f"EMAIL__{CODE}",
            f"EMAIL_{CODE}X",
            f"EMAIL_{CODE}7",
            f"EMAIL_{CODE[:-1]}",
            f"EMAIL_{CODE[:-1]}A",
            f"XEMAIL_{CODE}",
            f"my_EMAIL_{CODE}",
            f"EMAIL_{CODE}_old",
            f"_EMAIL_{CODE}",
            f"___EMAIL_{CODE}___",
            f"PHONE_{CODE}",
            f"EMA\u0130L_{CODE}",
            f"EMAIL_{CODE[:-1]}\u212a",
        ],
    )
    def test_part_of_a_longer_word_or_another_word_is_none(self, text):
        assert found(text) == []

    def test_what_stands_before_the_start_is_only_looked_at(self):
        text = f"x[EMAIL_{CODE}]"
        assert list(KNOWN.find(text, 1)) == [Found(1, len(text), "EMAIL", CODE)]
        assert list(KNOWN.find(text, 2)) == [Found(2, len(text) - 1, "EMAIL", CODE)]
        assert list(KNOWN.find(f"xEMAIL_{CODE}", 1)) == []

    def test_before_a_parenthesis_that_was_there_the_brackets_are_ours(self):
        assert found(f"[EMAIL_{CODE}](x)", called={CODE}) == [f"[EMAIL_{CODE}]"]


class TestCodes:
    @pytest.mark.parametrize(
        "text",
        [
            f"[EMAIL_{CODE}]",
            f"x-{CODE.lower()}.",
            rf'{{"a": "EMAIL\u005f{CODE}"}}',
            rf'{{"a": "EMAIL_\u0042{CODE[1:]}\n"}}',
            rf'{{"a": "{{\"b\": \"\\u005f{CODE}\"}}"}}',
        ],
    )
    def test_in_whatever_spelling(self, text):
        assert codes(["", text]) == {CODE}

    @pytest.mark.parametrize("text", [CODE + "L", "x" + CODE, CODE[1:], CODE[1:] + "A", "\\u00"])
    def test_nothing_else(self, text):
        assert codes([text]) == set()


class TestOpen:
    @pytest.mark.parametrize("placeholder", [f"[EMAIL_{CODE}]", rf"\[PII2\_{CODE}\]", f"email {CODE}"])
    @pytest.mark.parametrize("before", ["", "to ", "x: **", "送到"])
    def test_every_beginning_is_open(self, before, placeholder):
        end = len(placeholder) if placeholder[-2] != "\\" else len(placeholder) - 1
        for size in range(1, end + 1):
            text = before + placeholder[:size]
            assert KNOWN.open_at(text) == len(before)
        assert KNOWN.open_at(f"{before}{placeholder}. ") == len(before + placeholder) + 2

    @pytest.mark.parametrize(
        "text", ["", "a text.", "voicEMAIL", "PHONE", f"EMAIL_{CODE}X", "EMAIL_A", "(", "EMAIL: "]
    )
    def test_what_cannot_become_one_is_not(self, text):
        assert KNOWN.open_at(text) == len(text)

    @given(
        st.lists(
            st.sampled_from(
                [f"[EMAIL_{CODE}]", f"EMAIL_{CODE}", rf"\[pii2\_{CODE}\]", "EMAIL", "PII", CODE, CODE[:3],
                 "_", "[", "]", "(", "\\", " ", "-", "x", "é", "【", "】", "."]
            ),
            max_size=9,
        ).map("".join),
        st.data(),
    )  # fmt: skip
    def test_what_is_found_does_not_depend_on_where_the_text_was_cut(self, text, data):
        whole = list(KNOWN.find(text))
        cut = KNOWN.open_at(text[: data.draw(st.integers(0, len(text)))])
        parts = [*KNOWN.find(text[:cut]), *KNOWN.find(text, cut)]
        assert parts == whole

    @pytest.mark.parametrize(
        "piece",
        ["[", "EMAIL_", "[EMAIL_", f"[EMAIL_{CODE}", f"EMAIL_{CODE}", f"[EMAIL_{CODE}] ", "\\", "_", CODE],
    )
    def test_a_megabyte_of_beginnings_comes_to_an_end(self, piece):
        text = piece * (1_000_000 // len(piece))
        assert len(found(text)) in (0, 1, 1_000_000 // len(piece))
        assert 0 <= len(text) - KNOWN.open_at(text) < 40
        assert codes([text]) <= {CODE}
