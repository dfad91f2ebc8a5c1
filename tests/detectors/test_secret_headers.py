from base64 import b64encode

import pytest

from guardrail.detectors.patterns import Patterns
from guardrail.detectors.secret_headers import HEADER, find_header
from tests.detectors.prefixes import assert_held, embedded

VALUE = "q7Rz9" + "Kp2Lw8Vt4Yn6Bd1"
LOGIN = b64encode(b"jane:" + b"Zq7-kestrel").decode()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"Authorization: Bearer {VALUE}", VALUE),
        (f"authorization: bearer {VALUE}\r\nAccept: */*", VALUE),
        (f'curl -H "Authorization: Token {VALUE}" https://example.com', VALUE),
        (f'{{"Authorization": "SSWS {VALUE}"}}', VALUE),
        (f'{{\\"Authorization\\": \\"Bearer {VALUE}\\"}}', VALUE),
        (f"headers['Authorization'] = 'Bot {VALUE}'".replace("']", "'"), VALUE),
        (f"Authorization: {VALUE}{VALUE}", VALUE + VALUE),
        (f"use Bearer {VALUE}, please", VALUE),
        (f"Authorization: Basic {LOGIN}", LOGIN),
        (f"X-Api-Key: {VALUE}", VALUE),
        (f"x-auth-token={VALUE}", VALUE),
        (f"PRIVATE-TOKEN: {VALUE}", VALUE),
        (f"X-Vault-Token: {VALUE}", VALUE),
        (f'"DD-API-KEY": "{VALUE}"', VALUE),
        (f"Ocp-Apim-Subscription-Key: {VALUE}", VALUE),
        (f"Cookie: theme=dark; sessionid={VALUE}; lang=en", VALUE),
        (f"Set-Cookie: auth_token={VALUE}; Path=/", VALUE),
        ("curl -u deploy:Zq7-kestrel https://example.com", "Zq7-kestrel"),
        ("curl -s https://example.com --user 'deploy:Zq7-kestrel'", "Zq7-kestrel"),
        ("http -a deploy:Zq7-kestrel example.com", "Zq7-kestrel"),
    ],
)
def test_the_value_is_found_and_not_its_name(text: str, value: str) -> None:
    for written in (text, f"é {text}"):
        assert [written[start:end] for start, end in find_header(written)] == [value]
        assert Patterns([HEADER.trigger]).hits(written) == [0]


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer <token>",
        "Authorization: Bearer $TOKEN",
        "Authorization: Bearer your-access-token-1",
        "Authorization: AWS4-HMAC-SHA256 Credential=...",
        "Authorization: Basic dXNlcjpwYXNzd29yZA==",  # user:password
        "Authorization: Basic bm9jb2xvbg==",  # no colon in it
        "Authorization: Basic /////w==",  # no text
        "a bearer certificateofdeposit in the vault",
        "X-Api-Key: xxxxxxxxxxxxxxxxxxxxxxxx1",
        "X-Request-Id: 0123456789abcdef0123456789abcdef",
        "Cookie: theme=dark; consent=1",
        "curl -u $USER:$PASS https://example.com",
        "curl -u user:password https://example.com",
        "Bearer aaaaaaaaaaaaaaaa1aaaa",  # little entropy
    ],
)
def test_what_is_no_secret(text: str) -> None:
    assert find_header(text) == []


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {VALUE}",
        f"Authorization: Basic {LOGIN}",
        f"Cookie: theme=dark; sessionid={VALUE}; lang=en",
        "curl -u deploy:Zq7-kestrel https://example.com",
    ],
)
def test_no_part_of_a_value_is_let_go(text: str) -> None:
    assert_held(HEADER.detector, embedded(text))
