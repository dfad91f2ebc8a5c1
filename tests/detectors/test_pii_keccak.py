import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.detectors.pii_keccak import RATE, keccak256


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
        (
            b"The quick brown fox jumps over the lazy dog",
            "4d741b6f1eb29cb2a9b9911c82f56fa8d73b04959d3d9d222895df6c0b28aa15",
        ),
    ],
)
def test_known_hashes(message: bytes, expected: str) -> None:
    assert keccak256([message])[0].hex() == expected


@given(st.lists(st.binary(max_size=RATE - 2), max_size=9))
def test_many_messages_at_once_are_each_hashed_as_if_alone(messages: list[bytes]) -> None:
    assert keccak256(messages) == [keccak256([message])[0] for message in messages]
