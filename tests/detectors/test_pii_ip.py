from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.detectors.pii_ip import IP, find_ip
from tests.detectors.prefixes import assert_held, embedded


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in find_ip(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from 192.0.2.7.", ["192.0.2.7"]),
        ("http://198.51.100.23:8080/ and 203.0.113.0/24", ["198.51.100.23", "203.0.113.0"]),
        ("::ffff:192.0.2.7", ["192.0.2.7"]),
        ("2001:db8::1, then", ["2001:db8::1"]),
        ("[2001:db8::1]:443", ["2001:db8::1"]),
        ("2001:db8::/32", ["2001:db8::"]),
        ("it is fe80::1:", ["fe80::1"]),
        ("2001:DB8:85A3:0:0:8A2E:370:7334", ["2001:DB8:85A3:0:0:8A2E:370:7334"]),
        ("1:2:3:4:5:6:7:8", ["1:2:3:4:5:6:7:8"]),
    ],
)
def test_addresses(text: str, expected: list[str]) -> None:
    assert found(text) == expected
    assert_held(IP.detector, embedded(text))


@pytest.mark.parametrize(
    "text",
    [
        "1.2.3",
        "1.2.3.4.5",
        "v1.2.3.4, version 1.2.3.4, Release 1.2.3.4, Firmware: 1.2.3.4",
        "§4.2.3.2, section 8.4.1.3, x==1.2.3.0",
        "lib-1.2.3.4",
        "1.2.3.4-beta",
        "256.1.1.1",
        "01.02.03.04",
        "10.0.0.1 172.16.254.1 192.168.1.40 100.64.0.99 169.254.1.1",
        "from 1.2.3.4 to 3.20.14.31",
        "127.0.0.1 0.0.0.0 255.255.255.0 224.0.0.1 ::1 ::",
        "12:30:45",
        "00:1A:2B:3C:4D:5E",
        "x[1::2] a::b std::cout 10::20",
        "dead::beef::1",
        "2001:db8::1:2:3:4:5:6:7:8",
        "ff02::1",
    ],
)
def test_what_is_no_address_of_a_host(text: str) -> None:
    assert found(text) == []


@given(st.text(st.sampled_from("0123456789abcdef.: \ud800"), max_size=60))
def test_whatever_is_found_is_an_address(text: str) -> None:
    for written in found(text):
        assert not ip_address(written).is_loopback


@pytest.mark.parametrize(
    "piece", ["1.", "1:", "ab:", "dead:", "2001:db8::", "::", "256.1.1.1 ", "1.1.1.1."]
)
def test_hostile_runs_hold_no_address(piece: str) -> None:
    assert found(piece * 20_000) == []
