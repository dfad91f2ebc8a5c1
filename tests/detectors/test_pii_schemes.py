import pytest

from guardrail.detectors.patterns import fault
from guardrail.detectors.pii_schemes import SCHEMES


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_has_a_form_that_counts_somewhere(scheme) -> None:
    assert scheme.form or (scheme.names and scheme.bare)
    assert bool(scheme.names) == bool(scheme.bare)
    assert all(fault(pattern) is None for pattern in (scheme.form, scheme.names, scheme.bare) if pattern)


@pytest.mark.parametrize(
    ("number", "is_valid"),
    [
        ("S0000001I", True),
        ("T0000001E", True),
        ("F0000001U", True),
        ("G0000001P", True),
        ("M0000001Q", True),
        ("S0000001E", False),
        ("T0000001I", False),
        ("F0000001P", False),
        ("M0000001P", False),
    ],
)
def test_the_check_letter_of_singapore(number: str, is_valid: bool) -> None:
    [scheme] = [scheme for scheme in SCHEMES if scheme.form.startswith("[STFGM]")]
    assert scheme.is_valid(number) == is_valid


@pytest.mark.parametrize(
    ("form", "number", "is_valid"),
    [
        ("[A-CEGHJ-PR-TW-Z]", "AB123456C", True),
        ("[A-CEGHJ-PR-TW-Z]", "ZZ123456C", False),
        (r"(?:\d{8}|", "54.362.315-K", True),
        (r"(?:\d{8}|", "54362315Z", False),
    ],
)
def test_numbers_that_need_more_than_a_form(form: str, number: str, is_valid: bool) -> None:
    [scheme] = [scheme for scheme in SCHEMES if scheme.form.startswith(form)]
    assert scheme.is_valid(number) == is_valid


def test_a_number_without_a_check_counts_behind_its_name_only() -> None:
    named = [scheme for scheme in SCHEMES if not scheme.form]
    assert [one.names for one in named if one.is_valid("S0000000A")] == [r"national insurance|nino"]
