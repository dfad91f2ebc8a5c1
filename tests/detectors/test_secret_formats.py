import re

import pytest

from guardrail.detectors.patterns import fault
from guardrail.detectors.secret_formats import EXACT, OPEN, SHAPED


@pytest.mark.parametrize(("begin", "rest"), [*EXACT, *OPEN])
def test_beginnings_and_rests_make_a_pattern(begin: str, rest: str) -> None:
    assert fault(f"({begin}{rest})") is None
    assert re.compile(begin).groups == re.compile(rest).groups == 0  # the key is the only group


@pytest.mark.parametrize(("pattern", "screen"), SHAPED)
def test_shapes_have_one_group_and_a_screen(pattern: str, screen: str) -> None:
    assert fault(pattern) is fault(screen) is None
    assert re.compile(pattern).groups == 1
    assert re.compile(screen).groups == 0


def test_no_beginning_is_written_twice() -> None:
    begins = [begin for begin, _ in (*EXACT, *OPEN)]
    assert len(set(begins)) == len(begins)
