import json
from base64 import urlsafe_b64encode
from itertools import pairwise

import pytest

from guardrail.detectors.detector import Detector
from guardrail.detectors.secret_blocks import (
    CONNECTION_STRING,
    JWT,
    PRIVATE_KEY,
    find_connection_string,
    find_jwt,
    find_private_key,
)
from tests.detectors.prefixes import assert_held, embedded

LINE = "EXAMPLE0" * 8
LAST = "EXAMPLE=="
HEADERS = ["Proc-Type: 4,ENCRYPTED", f"DEK-Info: AES-128-CBC,{'0' * 32}", f"X-Note: {'y' * 80}", ""]


def pem(label: str, *body: str, end: bool = True) -> str:
    """A block, its markers put together here so that scanners of repositories stay quiet."""
    closing = ["-----END " + label + "-----"] if end else []
    return "\n".join(["-----BEGIN " + label + "-----", *body, *closing])


@pytest.mark.parametrize(
    "block",
    [
        pem("PRIVATE KEY", LINE, LINE, LAST),
        pem("RSA PRIVATE KEY", LINE),
        pem("EC PRIVATE KEY", LINE, LAST),
        pem("OPENSSH PRIVATE KEY", LINE, LAST),
        pem("ENCRYPTED PRIVATE KEY", LINE),
        pem("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-128-CBC,00", "", LINE),
        pem("PGP PRIVATE KEY BLOCK", "Version: Example 1.0", "", LINE, LAST, "=AbCd"),
        pem("PRIVATE KEY", LINE, LINE, LAST, end=False),
        pem("PRIVATE KEY", LINE, end=False),
    ],
)
def test_private_keys(block: str) -> None:
    for text in (block, json.dumps(f"Schlüssel\n{block}").strip('"')):
        [(start, end)] = find_private_key(text)
        assert text[start:end] == text[text.index("-----BEGIN") :]


def test_an_unterminated_key_does_not_swallow_the_prose_behind_it() -> None:
    text = pem("PRIVATE KEY", LINE, end=False) + "\nand that was the key, of many words and lines."
    [(start, end)] = find_private_key(text)
    assert text[start:end].endswith(LINE)


def test_a_long_key_is_covered_by_spans_that_touch() -> None:
    text = "x" + pem("PRIVATE KEY", *[LINE] * 100) + "x"
    spans = find_private_key(text)
    assert [spans[0][0], spans[-1][1]] == [1, len(text) - 1]
    assert all(one[1] == two[0] for one, two in pairwise(spans))
    assert max(end - start for start, end in spans) == PRIVATE_KEY.detector.longest


@pytest.mark.parametrize(
    "text",
    [
        pem("PUBLIC KEY", LINE, LAST),
        pem("CERTIFICATE", LINE, LAST),
        pem("PRIVATE KEY", "..."),
        "a file that begins with " + pem("PRIVATE KEY", end=False) + " is a key",
    ],
)
def test_what_is_no_private_key(text: str) -> None:
    assert find_private_key(text) == []


def part(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


PAYLOAD = part({"sub": "EXAMPLE", "name": "Jane Doe"})


@pytest.mark.parametrize(
    "token",
    [
        f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{PAYLOAD}.c2lnbmF0dXJlRVhBTVBMRQ",
        f"{part({'alg': 'none'})}.{PAYLOAD}.",
        f"{part({'typ': 'JWT', 'alg': 'RS256', 'kid': 'EXAMPLE'})}.{PAYLOAD}.{'a-_' * 80}",
    ],
)
def test_web_tokens(token: str) -> None:
    text = f"Authorization: Bearer {token}, é"
    assert [text[start:end] for start, end in find_jwt(text)] == [token]


def test_a_long_token_is_covered() -> None:
    text = f"{part({'alg': 'HS256'})}.{PAYLOAD * 100}.c2ln"
    spans = find_jwt(text)
    assert [spans[0][0], spans[-1][1]] == [0, len(text)]
    assert max(end - start for start, end in spans) == JWT.detector.longest


@pytest.mark.parametrize(
    "text",
    [
        f"{part({'alg': 'HS256'})}.{PAYLOAD}",  # two parts
        f"{part({'typ': 'JWT'})}.{PAYLOAD}.c2ln",  # no algorithm
        f"{part({'alg': 5})}.{PAYLOAD}.c2ln",
        f"eyJub3QganNvbiBhdCBhbGw.{PAYLOAD}.c2ln",
        f"eyJub3QganNvbiBhdCBhbG.{PAYLOAD}.c2ln",
        f"eyJ_-_-_-_-_-_-.{PAYLOAD}.c2ln",
        "eyelashes_and_more.of_the.same",
    ],
)
def test_what_is_no_web_token(text: str) -> None:
    assert find_jwt(text) == []


@pytest.mark.parametrize(
    "url",
    [
        "postgres://app:s3cr3tEXAMPLE0".replace("EXAMPLE", "Zq7") + "@db.example.com:5432/main",
        "mongodb+srv://jane:hunter2@cluster0.example.net",
        "redis://:p4ssphrase@10.0.0.1:6379",
        "https://jane:correct-horse@example.com/path",
        "amqp://guest:g%40est1@[2001:db8::1]:5672",
    ],
)
def test_connection_strings(url: str) -> None:
    text = f'URL="{url}"'
    [(start, end)] = find_connection_string(text)
    assert url.startswith(text[start:end])
    assert "@" in text[start:end]


SECRET = "Zq7!" + "kestrel"


@pytest.mark.parametrize(
    "text",
    [
        f"Server=db.example.com;Database=shop;User Id=app;Password={SECRET};",
        f'"Data Source=10.0.0.7,1433;Initial Catalog=shop;User ID=app;Password={SECRET}"',
        f"Driver={{SQL Server}};Server=db;Uid=app;Pwd={SECRET};",
        f"jdbc:sqlserver://db.example.com:1433;databaseName=shop;user=app;password={SECRET};encrypt=true",
        f"Password={SECRET};Server=db.example.com",
        f"Host = db; Password = {SECRET}; Timeout = 5",
    ],
)
def test_passwords_in_pairs(text: str) -> None:
    for written in (text, f"Schlüssel: {text}\n"):
        assert [written[start:end] for start, end in find_connection_string(written)] == [SECRET]


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com:8080/path?mail=a@example.com",
        "https://user@example.com",
        "postgres://user:password@localhost/db",
        "postgres://user:${DB_PASSWORD}@localhost/db",
        "postgres://user:<password>@localhost/db",
        "postgres://user:changeme@localhost/db",
        "mysql://root:xxxxxxxx@localhost",
        "see http://example.com: mail me @ home",
        "Server=db;User Id=app;Password=<password>;",
        "Server=db;User Id=app;Password={0};",
        "Server=db;Password=",
        "password=abcdef; echo done",
    ],
)
def test_what_is_no_connection_string_with_a_password(text: str) -> None:
    assert find_connection_string(text) == []


@pytest.mark.parametrize(
    ("detector", "text"),
    [
        (PRIVATE_KEY.detector, pem("RSA PRIVATE KEY", *HEADERS, *[LINE] * 20, LAST)),
        (PRIVATE_KEY.detector, json.dumps(pem("OPENSSH PRIVATE KEY", *[LINE] * 20, LAST))),
        (PRIVATE_KEY.detector, pem("PGP PRIVATE KEY BLOCK", "Version: 1", "", LINE, LAST, "=AbCd")),
        (JWT.detector, f"{part({'alg': 'HS256'})}.{PAYLOAD}.c2lnbmF0dXJlRVhBTVBMRQ"),
        (CONNECTION_STRING.detector, "amqp://jane:correct-horse@[2001:db8::1]:5672/path"),
        (CONNECTION_STRING.detector, f"Server=db;User Id=app;Password={SECRET};"),
    ],
)
def test_no_part_is_let_go(detector: Detector, text: str) -> None:
    assert_held(detector, embedded(text))
