import pytest

from guardrail.detectors.secret_keys import PROVIDER_KEY, find_provider_key

# Put together here so that no scanner of repositories takes them for real ones.
BODY = "EXAMPLE" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V2w3X4y5Z6"
HEX = "0123456789abcdef" * 2
KEYS = [
    "AKIA" + "IOSFODNN7" + "EXAMPLE",
    "ASIA" + "IOSFODNN7" + "EXAMPLE",
    *(f"gh{kind}_" + BODY[:36] for kind in "pousr"),
    "github" + "_pat_" + BODY[:22] + "_" + BODY[:59],
    "glpat" + "-" + BODY[:20],
    "glpat" + "-" + BODY[:27] + ".01.0a1b2c3d4",
    "xoxb" + "-123456789012-" + BODY[:24],
    "xoxe.xoxp" + "-1-" + BODY[:40],
    "xapp" + "-1-A0EXAMPLE1-1234567890123-" + HEX,
    "sk" + "_live_" + BODY[:24],
    "rk" + "_live_" + BODY[:24],
    "sk" + "_test_" + BODY[:24],
    "AIza" + BODY[:33] + "_-",
    "sk-" + "proj-" + BODY[:40] + "-_",
    "sk-" + "svcacct-" + BODY[:40],
    "sk-" + BODY[:48],
    "sk-" + "ant-api03-" + BODY[:40] + "-AA",
    "hf" + "_" + BODY[:34],
    "npm" + "_" + BODY[:36],
    "pypi-" + "AgEIcHlwaS5vcmc" + BODY[:55],
    "SG" + "." + BODY[:22] + "." + BODY[:43],
    "AC" + HEX,
    "SK" + HEX,
    "123456789" + ":AA" + BODY[:33],
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("frame", ["{}", 'key = "{}"', "Schlüssel: {}\n", "({}), then", "KEY={}\nX=1"])
def test_keys(key: str, frame: str) -> None:
    text = frame.format(key)
    assert [text[start:end] for start, end in find_provider_key(text)] == [key]
    assert len(key) <= PROVIDER_KEY.detector.longest


@pytest.mark.parametrize(
    "text",
    [
        "the AKIA prefix, ghp_ and sk- are prefixes",
        "AKIA" + "iosfodnn7example",
        "XAKIA" + "IOSFODNN7" + "EXAMPLE",
        "AKIA" + "IOSFODNN7" + "EXAMPLE" + "MORE",
        "ghp_" + "short",
        "sk-learn, task-oriented, risk-" + BODY[:32],
        "hf_" + BODY[:20],
        "AC" + HEX + "0",
        "12:AAbb, 1234567890:00:00",
        "SG.short.short",
        "npm_config_registry=https://registry.example.com",
    ],
)
def test_what_is_no_key(text: str) -> None:
    assert find_provider_key(text) == []


def test_two_keys_one_after_the_other() -> None:
    text = "\n".join(KEYS)
    assert [text[start:end] for start, end in find_provider_key(text)] == KEYS
