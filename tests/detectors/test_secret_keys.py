import pytest

from guardrail.detectors.patterns import Patterns
from guardrail.detectors.secret_keys import PROVIDER_KEY, find_provider_key
from tests.detectors.prefixes import assert_held, embedded

# Put together here so that no scanner of repositories takes them for real ones.
BODY = "EXAMPLE" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V2w3X4y5Z6"
HEX = "0123456789abcdef" * 2
UUID = "01234567-89ab-4cde-8f01-23456789abcd"
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
    "GOCSPX" + "-" + BODY[:28],
    "ya29" + "." + BODY[:50],
    "xkeysib-" + HEX * 2 + "-" + BODY[:16],
    *(f"do{kind}_v1_" + HEX * 2 for kind in "opr"),
    *(f"shp{kind}_" + HEX for kind in ("at", "ca", "pa", "ss")),
    "sq0atp-" + BODY[:22],
    "sq0csp-" + BODY[:43],
    "EAAA" + BODY[:59] + BODY,
    "NRAK-" + BODY[:27].upper(),
    "glsa_" + BODY[:32] + "_" + HEX[:8],
    "glc_" + "eyJ" + BODY[:50] + "==",
    *(f"gl{kind}-" + BODY[:20] for kind in ("dt", "rt", "ptt", "cbt", "ft", "imt", "oas", "soat")),
    "hvs." + BODY[:40],
    "lin_api_" + BODY[:40],
    "ntn_" + BODY[:46],
    "secret_" + BODY[:43],
    "PMAK-" + HEX[:24] + "-" + (HEX * 2)[:34],
    "sbp_" + (HEX * 2)[:40],
    "sb_secret_" + BODY[:31],
    "ATATT3" + BODY * 3 + "=" + HEX[:8].upper(),
    "ATBB" + BODY[:32],
    "gsk_" + BODY[:52],
    "pplx-" + BODY[:48],
    "r8_" + BODY[:37],
    "sk-" + "or-v1-" + HEX * 2,
    "xai-" + BODY + BODY[:21],
    "dapi" + HEX + "-2",
    "sk-lf-" + UUID,
    "lsv2_pt_" + HEX + "_" + HEX[:10],
    "tvly-" + BODY[:32],
    "sk_" + HEX + HEX[:16],
    "dp.pt." + BODY[:43],
    "dp.st.prd_main." + BODY[:43],
    "dckr_pat_" + BODY[:27],
    "rubygems_" + HEX + HEX[:16],
    "cio" + BODY[:32],
    "oy2" + BODY[:43].lower(),
    "AKCp" + BODY + BODY[:10],
    "AGE-SECRET-KEY-1" + ("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" * 2)[:58],
    "sntryu_" + HEX * 2,
    "sntrys_" + "eyJ" + BODY[:50] + "_" + BODY[:43],
    "pat" + BODY[:14] + "." + HEX * 2,
    "pat-" + "na1-" + UUID,
    "access-sandbox-" + UUID,
    "pul-" + HEX + HEX[:8],
    "API-" + "EXAMPLE0123456789ABCDEFGHI",
    "sha256~" + BODY[:43],
    "CCIPAT_" + BODY[:22] + "_" + HEX + HEX[:8],
    "squ_" + HEX + HEX[:8],
    "dt0c01." + "EXAMPLE0EXAMPLE0EXAMPLE0" + "." + "EXAMPLE0" * 8,
    "shippo_live_" + HEX + HEX[:8],
    "LTAI" + BODY[:20],
    "whsec_" + BODY[:32],
    "vcp_" + BODY[:40],
    "nfp_" + BODY[:40],
    "fo1_" + BODY[:43],
    "fm2_" + BODY * 3 + "==",
    "HRKU-" + BODY[:50],
    "tskey-auth-" + BODY[:20] + "-" + BODY[:30],
    "ops_" + "eyJ" + BODY * 6,
    "pscale_tkn_" + BODY[:43],
    "figd_" + BODY[:40],
    "sl." + BODY * 3,
    "phx_" + BODY[:43],
    "v1.0-" + HEX[:24] + "-" + (HEX * 5)[:146],
    "https://hooks.slack" + ".com/services/T0EXAMPLE/B0EXAMPLE/" + BODY[:24],
    "https://discord" + ".com/api/webhooks/" + "123456789012345678/" + BODY + BODY[:10],
    "MT" + BODY[:24] + "." + BODY[:6] + "." + BODY[:38],
    HEX + "-us21",
    "key-" + HEX,
    BODY[:14] + ".atlasv1." + BODY + BODY[:5],
    "aB~8Q~" + BODY[:34],
    "oauth:" + BODY[:30].lower(),
]
# The key is only a part of what is written, and the rest is needed to know it.
IN_CONTEXT = [
    ("AccountName=shop;AccountKey={};EndpointSuffix=core", BODY + BODY[:27] + "=="),
    ("SharedAccessKeyName=root;SharedAccessKey={}", BODY[:43] + "="),
    ("AKIA" + "IOSFODNN7" + "EXAMPLE, {}", (BODY[:18] + "/+" + BODY)[:40]),
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("frame", ["{}", 'key = "{}"', "Schlüssel: {}\n", "({}), then", "KEY={}\nX=1"])
def test_keys(key: str, frame: str) -> None:
    text = frame.format(key)
    assert [text[start:end] for start, end in find_provider_key(text)] == [key]
    assert len(key) <= PROVIDER_KEY.detector.longest


TRIGGER = Patterns([PROVIDER_KEY.trigger])


@pytest.mark.parametrize("text", [*KEYS, *(frame.format(key) for frame, key in IN_CONTEXT)])
def test_every_key_pulls_the_trigger(text: str) -> None:
    assert TRIGGER.hits(f"é {text}") == [0]


@pytest.mark.parametrize(("frame", "key"), IN_CONTEXT)
def test_keys_that_are_known_by_what_stands_before_them(frame: str, key: str) -> None:
    text = frame.format(key)
    assert key in [text[start:end] for start, end in find_provider_key(text)]


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
        "cache-key-" + HEX,
        "pat_" + BODY[:14] + ", secret_sauce, cioppino, key-value, API-FIRST",
        "sha256:" + HEX * 2,
        "MTExample.of.dots",
        "https://hooks.slack" + ".com/services/",
        "SharedAccessKey=<key>",
        "dp.pt, hvs. and sl. are prefixes; xai-2 is none",
    ],
)
def test_what_is_no_key(text: str) -> None:
    assert find_provider_key(text) == []


def test_two_keys_one_after_the_other() -> None:
    text = "\n".join(KEYS)
    assert [text[start:end] for start, end in find_provider_key(text)] == KEYS


@pytest.mark.parametrize("key", KEYS)
def test_no_part_of_a_key_is_let_go(key: str) -> None:
    assert_held(PROVIDER_KEY.detector, embedded(key))
