import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.detectors.pii_email import EMAIL, find_email
from tests.detectors.prefixes import assert_held, embedded


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in find_email(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to jane.doe+news@mail.example.com.", ["jane.doe+news@mail.example.com"]),
        ("<o'neill_1@example.co.uk>, b@example.org", ["o'neill_1@example.co.uk", "b@example.org"]),
        ("mailto:x@example.com?subject=y", ["x@example.com"]),
        ("jörg@müller.example", ["jörg@müller.example"]),
        ("a@xn--mller-kva.example", ["a@xn--mller-kva.example"]),
        ("a@example.xn--p1ai", ["a@example.xn--p1ai"]),
        ("_jane@example.com_", ["_jane@example.com"]),
        ("邮箱是jane@example.com联系", ["jane@example.com"]),
        ("x" * 80 + "@example.com", ["x" * 64 + "@example.com"]),
    ],
)
def test_addresses(text: str, expected: list[str]) -> None:
    assert found(text) == expected
    assert_held(EMAIL.detector, embedded(text))


@pytest.mark.parametrize(
    "text",
    [
        "no address here",
        "@handle and user@localhost",
        "a@b.c, a@-b.com, a@b-.com, a@.com",
        "icon@2x.png logo@3x.JPG",
        "name@domain.tld",
        "react@18.2.0 and lodash@4.17.21",
        "git clone git@github.com:example/example.git",
        "x@" + ".".join(["a" * 60] * 5) + ".com",  # longer than SMTP carries
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert found(text) == []


def test_the_login_of_a_git_host_is_an_address_when_no_path_follows() -> None:
    assert found("mail git@example.com") == ["git@example.com"]


@given(st.text(st.characters()))
def test_an_address_holds_one_at_sign(text: str) -> None:
    assert all(address.count("@") == 1 for address in found(text + "a@example.com" + text))


@pytest.mark.parametrize("piece", ["a@", "@", "a.", "a@a.", "a" * 63, "a@" + "a." * 9, "@a.com "])
def test_hostile_runs_hold_no_address(piece: str) -> None:
    assert found(piece * 20_000) == []
