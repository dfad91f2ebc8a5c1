import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.detectors.pii_mac import MAC, find_mac
from tests.detectors.prefixes import assert_held, embedded

ADDRESSES = ["00:1A:2B:3C:4D:5E", "00-1a-2b-3c-4d-5e", "001a.2b3c.4d5e", "a4:83:e7:00:00:01"]


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in find_mac(text)]


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses(address: str) -> None:
    assert found(f"mac={address}. And <{address}>") == [address, address]
    assert_held(MAC.detector, embedded(address))


@pytest.mark.parametrize(
    "text",
    [
        "00:1A:2B:3C:4D",
        "00:1A:2B:3C:4D:5E:6F",
        "00:1A-2B:3C-4D:5E",
        "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff",
        "01:00:5e:00:00:fb",  # multicast
        "12:30:45 on 2024-01-02",
        "x00:1A:2B:3C:4D:5E",
        "0000.0000.0000",
        "SHA1: 3a:" + "12:" * 18 + "ff",
        "550e8400-e29b-41d4-a716-446655440000",
        "XX:XX:XX:XX:XX:XX",
    ],
)
def test_what_is_no_address_of_one_interface(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize("piece", ["ab:", "ab-", "abcd.", "0", "00:1A:2B:3C:4D:5E:"])
def test_hostile_runs_hold_no_address(piece: str) -> None:
    assert found(piece * 50_000) == []


@given(st.text(st.sampled_from("012aF:-. \ud800"), max_size=60))
def test_whatever_is_found_has_twelve_digits(text: str) -> None:
    for address in found(text + " " + ADDRESSES[0]):
        assert sum(c.isalnum() for c in address) == 12
