import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.detectors.detector import ENCODED_RUN, Detector, Triggered, tidy

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)).map(lambda p: (p[0], p[0] + p[1])))


@pytest.mark.parametrize(
    ("spans", "longest", "expected"),
    [
        ([], 5, []),
        ([(4, 6), (0, 2)], 5, [(0, 2), (4, 6)]),
        ([(0, 4), (2, 6)], 9, [(0, 6)]),
        ([(0, 6), (2, 4)], 9, [(0, 6)]),
        ([(0, 2), (2, 4)], 9, [(0, 2), (2, 4)]),  # touching spans stay two
        ([(0, 12)], 5, [(0, 5), (5, 10), (10, 12)]),
    ],
)
def test_tidy(spans: list[tuple[int, int]], longest: int, expected: list[tuple[int, int]]) -> None:
    assert tidy(spans, longest) == expected


@given(SPANS, st.integers(1, 20))
def test_tidy_covers_the_same_characters_without_overlap(
    spans: list[tuple[int, int]], longest: int
) -> None:
    tidied = tidy(spans, longest)
    covered = [at for start, end in tidied for at in range(start, end)]
    assert covered == sorted({at for start, end in spans for at in range(start, end)})
    assert all(0 < end - start <= longest for start, end in tidied)


def test_detectors_are_values() -> None:
    detector = Detector("pii.none", lambda text: [], 1)
    assert detector.find("text") == []
    assert Triggered(detector, "x") == Triggered(detector, "x", folded=False, beyond_ascii=False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        detector.longest = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("detector", "held", "run"),
    [
        (Detector("a.b", lambda text: [], 9), 9, ENCODED_RUN),
        (Detector("a.b", lambda text: [], 9, hold=4), 4, ENCODED_RUN),
        (Detector("a.b", lambda text: [], 9, inside=False), 9, 0),
        (Detector("a.b", lambda text: [], 9, unbroken=True, inside=False), 9, 9),
        (
            Detector("a.b", lambda text: [], 2 * ENCODED_RUN, unbroken=True),
            2 * ENCODED_RUN,
            2 * ENCODED_RUN,
        ),
    ],
)
def test_what_a_stream_holds_back(detector: Detector, held: int, run: int) -> None:
    assert (detector.held, detector.run) == (held, run)
