import pytest

from guardrail.detectors.pii_crypto import CRYPTO, find_crypto
from tests.detectors.prefixes import assert_held, embedded

# From the proposals (BIP 13, BIP 173, BIP 350, ERC-55, CIP 19) and the first blocks.
ADDRESSES = [
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy",
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
    "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
    "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
    "DH5yaieqoZN36fDVciNyRueRGvGLR3mr7L",
    "addr1qx2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer3n0d3vllmyqwsx5wktcd8cc3sq835lu7drv2xwl2wywfgse35a3x",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
]
SMALL = "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in find_crypto(text)]


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses(address: str) -> None:
    assert found(f"tip jar ({address})") == [address]
    assert_held(CRYPTO.detector, embedded(address))


@pytest.mark.parametrize(
    "text", [f"wallet: {SMALL}", f"my ETH address is {SMALL}", f'"address": "{SMALL}"']
)
def test_an_address_without_a_checksum_behind_a_word_for_it(text: str) -> None:
    assert found(text) == [SMALL]
    assert_held(CRYPTO.detector, embedded(text))


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_with_another_last_letter_is_none(address: str) -> None:
    for other in "2aAqQ":
        assert found(address[:-1] + other) == ([address] if address.endswith(other) else [])


@pytest.mark.parametrize(
    "text",
    [
        SMALL,
        SMALL.upper().replace("0X", "0x"),
        f"commit {SMALL[2:]}",
        "0x" + "0" * 39,
        ADDRESSES[0] + "x" * 9,
        "z" * 35,  # more than 25 bytes
        "3f786850e387550fdab836ed7e6dc881de23001b",
        "thisisaverylongnamewith1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq",
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "piece", ["1", "0x", "bc1q", "3J98t1WpEZ73", ADDRESSES[0][:-1] + "b ", SMALL + " ", "wallet: 0x", "a1"]
)
def test_hostile_runs_hold_no_address(piece: str) -> None:
    assert found(piece * (100_000 // len(piece))) == []


def test_more_addresses_than_are_hashed_at_once() -> None:
    assert len(find_crypto((ADDRESSES[-1] + " ") * 600)) == 600
