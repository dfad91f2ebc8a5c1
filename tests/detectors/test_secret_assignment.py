import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.detectors.secret_assignment import ASSIGNMENT, entropy, find_assignment, is_random
from tests.detectors.prefixes import assert_held, embedded

VALUE = "q7Rz9" + "Kp2Lw8Vt4"


@pytest.mark.parametrize(
    "text",
    [
        f'password = "{VALUE}"',
        f"PASSWORD='{VALUE}'",
        f"db_password: {VALUE}\n",
        f'"api_key": "{VALUE}",',
        f"API_KEY={VALUE}",
        f"export SECRET_KEY={VALUE};",
        f'client_secret => "{VALUE}"',
        f'authToken := "{VALUE}"',
        f'AWS_SECRET_ACCESS_KEY="{VALUE}"',
        f'password: str = "{VALUE}"',
        f'config["password"] = "{VALUE}"',
        f"passphrase = b'{VALUE}'",
        f"https://example.com/?access_token={VALUE}&x=1",
        f'if token == "{VALUE}":',
        f"Schlüssel: api key: {VALUE}",
        f'PASSWORD_PROD = "{VALUE}"',
        f'{{\\"password\\": \\"{VALUE}\\"}}',
        f"PASSWORD ?= {VALUE}",
        f'options.set("password", "{VALUE}")',
        f"my password is {VALUE}.",
        f"The password for the ticket system of the office is '{VALUE}', thanks",
        f"Das Kennwort lautet {VALUE}!",
        f"La contraseña de la cuenta es {VALUE} y ya",
        f"Le mot de passe est {VALUE}.",
        f"Пароль: {VALUE}",
        f"密码是{VALUE}。",
        f"パスワードは「{VALUE}」です",
        f"पासवर्ड {VALUE[:0]}है {VALUE} ।",
    ],
)
def test_the_value_is_found_and_not_its_name(text: str) -> None:
    assert [text[start:end] for start, end in find_assignment(text)] == [VALUE]


@pytest.mark.parametrize(
    "text",
    [
        'password = "short1"',
        'password = "correcthorsebattery"',  # no digit: might be a word
        'password = "aaaaaaaa1"',  # little entropy
        'password = "<your key>"',
        'password = "xxxxxxxxxxxx1"',
        'password = "${VAR_12345678}"',
        'password = "changeme123"',
        "api_key = 'example-1a2b3c4d5e'",
        "token = os.environ['TOKEN_1']",
        "password=settings.DB1.PASSWORD2",
        "token = get_token(request1, user2)",
        "secret = self.vault.item3.value4",
        "max_tokens: 4096, token_count = 12345678",
        "password_hash: 5f4dcc3b5aa765d61d8327deb882cf99",
        "The secret to a good tomato sauce is patience: token effort",
        "token: 123456789012",
        "The password is case-sensitive and the api key is 32-characters long",
        "Is the password hash of user123 in md5?",
        "The password must be 8-20 characters, e.g. uppercase1",
        "密码必须包含字母",
        "open(join(pwd, './data/mt19937-testset-2.csv'))",
        "private_key: Ed25519PrivateKey",
        "credentials: Base64-encoded user and password",
        'set(key="auth_token", value=token_b64_text1)',
    ],
)
def test_what_is_no_secret(text: str) -> None:
    assert find_assignment(text) == []


def test_entropy_is_in_bits_a_character() -> None:
    assert entropy("") == 0
    assert entropy("aaaa") == 0
    assert entropy("abab") == 1
    assert entropy("0123456789abcdef") == 4


def test_what_is_random_has_letters_and_digits_and_the_entropy_that_is_asked_for() -> None:
    assert is_random("0a1b", 2)
    assert not is_random("0a1b", 2.1)
    assert not is_random("0123456789", 1)
    assert not is_random("abcdefghij", 1)


@given(st.text(st.characters(), min_size=1))
def test_entropy_lies_between_zero_and_that_of_distinct_characters(value: str) -> None:
    assert -1e-9 <= entropy(value) <= entropy("".join(map(chr, range(len(value))))) + 1e-9


@pytest.mark.parametrize(
    "text",
    [f'password = "{VALUE}"', f"API_KEY={VALUE}\n", f"the password is {VALUE} now", f"密码是{VALUE}"],
)
def test_no_part_of_a_value_is_let_go(text: str) -> None:
    assert_held(ASSIGNMENT.detector, embedded(text))
