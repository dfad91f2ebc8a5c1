"""Keys that vendors mark with a prefix of their own (``secrets.provider_key``)."""

from __future__ import annotations

from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.patterns import Patterns

__all__ = ["PROVIDER_KEY", "find_provider_key"]

_LONGEST: Final = 300

# Not inside a longer run of the key's own alphabet.
_END: Final = r"(?:[^\w\-]|$)"

# One pattern a format. Where a vendor publishes no length, the length is that of the keys it issues
# and of the rules of gitleaks (MIT) and Nosey Parker (Apache-2.0), which were read, not copied.
_KEYS: Final = (
    # AWS, IAM user guide "unique identifiers": AKIA long-term, ASIA temporary; the rest is base 32.
    rf"\b((?:AKIA|ASIA)[A-Z2-7]{{16}}){_END}",
    # GitHub, "Behind GitHub's new authentication token formats" (2021): personal, OAuth, user,
    # server and refresh tokens; 36 characters today, up to 255 reserved.
    r"\b(gh[pousr]_[A-Za-z0-9]{36,255})",
    # GitHub, fine-grained personal token: 22 characters of id, 59 of secret.
    rf"\b(github_pat_[A-Za-z0-9]{{22}}_[A-Za-z0-9]{{59}}){_END}",
    # GitLab, token overview: glpat-, 20 characters, longer and with dots when "routable".
    r"\b(glpat-[A-Za-z0-9_\-]{20,250}(?:\.[a-z0-9]{2}\.?[a-z0-9]{7,9})?)",
    # Slack, "token types": bot, user, app-level, refresh, configuration and legacy tokens.
    r"\b(xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9\-]{10,250}|xapp-\d-[A-Z0-9]{8,}-\d{8,}-[a-z0-9]{32,128})",
    # Stripe, "API keys": secret and restricted, live and test.
    r"\b([sr]k_(?:live|test)_[A-Za-z0-9]{16,250})",
    # Google Cloud, API keys: AIza and 35 of base 64 for URLs.
    rf"\b(AIza[A-Za-z0-9_\-]{{35}}){_END}",
    # OpenAI: project, service-account and admin keys; then the older ones without a kind.
    r"\b(sk-(?:proj|svcacct|admin)-[A-Za-z0-9_\-]{20,250})",
    r"\b(sk-[A-Za-z0-9]{32,128})",
    # Anthropic: kind and version, then some 95 of base 64 for URLs.
    r"\b(sk-ant-[A-Za-z0-9_\-]{20,250})",
    # Hugging Face, "user access tokens": 34 letters.
    rf"\b(hf_[A-Za-z0-9]{{34}}){_END}",
    # npm, "New npm access token format" (2021): 36 characters, the last six a checksum.
    rf"\b(npm_[A-Za-z0-9]{{36}}){_END}",
    # PyPI, secret reporting guide: a macaroon in base 64, so every one begins with the same bytes
    # (version and site).
    r"\b(pypi-AgE[A-Za-z0-9_\-]{50,280})",
    # SendGrid: two parts of base 64 for URLs, 22 and 43 characters.
    rf"\b(SG\.[A-Za-z0-9_\-]{{22}}\.[A-Za-z0-9_\-]{{43}}){_END}",
    # Twilio, REST API: account and key SIDs, 32 hexadecimal digits.
    rf"\b((?:AC|SK)[0-9a-f]{{32}}){_END}",
    # Telegram, Bot API "authorizing your bot": the bot's number, then 35 characters.
    rf"(?:^|[^\w])((?:bot)?\d{{8,10}}:AA[A-Za-z0-9_\-]{{33}}){_END}",
)
_PATTERNS: Final = Patterns(_KEYS)


def find_provider_key(text: str) -> list[tuple[int, int]]:
    """Spans of keys in a well-known vendor's format; no attempt is made to use or verify one."""
    return tidy(((start, end) for _, start, end in _PATTERNS.spans(text)), _LONGEST)


PROVIDER_KEY: Final = Triggered(
    Detector("secrets.provider_key", find_provider_key, _LONGEST),
    r"\b(?:AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]|xapp-|[sr]k_(?:live|test)_|AIza"
    r"|sk-[A-Za-z0-9]|hf_|npm_|pypi-|SG\.|(?:AC|SK)[0-9a-f]{8})|\d{8}:AA",
)
