import pytest

from guardrail.detectors.placeholders import is_placeholder


@pytest.mark.parametrize(
    "value",
    [
        "<your key>",
        "<YOUR_API_KEY>",
        "${VAR}",
        "$VAR",
        "$(pass show x)",
        "{{ secret }}",
        "#{token}",
        "%(password)s",
        "%PASSWORD%",
        "[password]",
        "@password@",
        "xxxxxxxx",
        "sk-XXXXXXXX",
        "********",
        "abc...xyz",
        "________",
        "00000000",
        "abcdef123456",
        "123456789",
        "wJalrEXAMPLEKEY1",
        "changeme",
        "change_me_1",
        "placeholder1",
        "your-token-1",
        "token-goes_here",
        "password123",
        "my_secret_key",
        "MyPassword1",
        "none",
        "os.environ['KEY1']",
        "process.env.KEY1",
        "getenv(KEY1)",
        "secrets.API_KEY1",
        "vault:secret/data1",
    ],
)
def test_placeholders(value: str) -> None:
    assert is_placeholder(value)


@pytest.mark.parametrize("value", ["hunter2", "Tr0ub4dor&3", "9f86d081884c7d65", "s3cr3t!Zq7", ""])
def test_secrets(value: str) -> None:
    assert not is_placeholder(value)
