"""The formats of the keys that vendors issue: how each begins, and how it goes on.

Where a vendor publishes no length, the length is that of the keys it issues and of the rules of
gitleaks (MIT), Nosey Parker (Apache-2.0) and Kingfisher (Apache-2.0), which were read, not copied.
"""

from __future__ import annotations

from typing import Final

__all__ = ["EXACT", "OPEN", "SHAPED"]

_HEX: Final = "[0-9a-f]"
_WORD: Final = "[A-Za-z0-9]"
_URL64: Final = r"[A-Za-z0-9_\-]"
_STD64: Final = "[A-Za-z0-9+/]"
_UUID: Final = rf"{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}"

EXACT: Final = (
    # AWS, IAM user guide "unique identifiers": AKIA long-term, ASIA temporary; the rest is base 32.
    ("(?:AKIA|ASIA)", "[A-Z2-7]{16}"),
    # GitHub, fine-grained personal token: 22 characters of id, 59 of secret.
    ("github_pat_", rf"{_WORD}{{22}}_{_WORD}{{59}}"),
    # Google Cloud: API keys; the secrets of OAuth clients.
    ("AIza", rf"{_URL64}{{35}}"),
    ("GOCSPX-", rf"{_URL64}{{28}}"),
    # Hugging Face, "user access tokens": 34 letters.
    ("hf_", rf"{_WORD}{{34}}"),
    # npm, "New npm access token format" (2021): 36 characters, the last six a checksum.
    ("npm_", rf"{_WORD}{{36}}"),
    # SendGrid: two parts of base 64 for URLs, 22 and 43 characters. Brevo (once Sendinblue).
    (r"SG\.", rf"{_URL64}{{22}}\.{_URL64}{{43}}"),
    ("xkeysib-", rf"{_HEX}{{64}}-{_WORD}{{16}}"),
    # Twilio, REST API: account and key SIDs, 32 hexadecimal digits.
    (rf"(?:AC|SK){_HEX}{{8}}", rf"{_HEX}{{24}}"),
    # DigitalOcean: personal, OAuth and refresh tokens.
    ("do[opr]_v1_", rf"{_HEX}{{64}}"),
    # Shopify, "access tokens": Admin API, custom and private apps, shared secret.
    ("shp(?:at|ca|pa|ss)_", "[0-9a-fA-F]{32}"),
    # Square: access token, application secret.
    ("sq0(?:atp-|csp-)", rf"(?:{_URL64}{{22}}|{_URL64}{{43}})"),
    # New Relic, "API keys": user, insert and browser keys.
    ("NR(?:AK|II|JS)-", "[A-Za-z0-9]{19,32}"),
    # Grafana: service-account token with its checksum.
    ("glsa_", r"[A-Za-z0-9]{32}_[0-9a-fA-F]{8}"),
    # Linear, Notion (two generations), Postman.
    ("lin_(?:api|oauth)_", rf"{_WORD}{{40,64}}"),
    ("ntn_", rf"{_WORD}{{40,50}}"),
    (rf"secret_{_WORD}{{8}}", rf"{_WORD}{{35}}"),
    ("PMAK-", rf"{_HEX}{{24}}-{_HEX}{{34}}"),
    # Supabase: personal token, secret API key.
    ("sbp_", rf"(?:v0_)?{_HEX}{{40}}"),
    ("sb_secret_", rf"{_URL64}{{31}}"),
    # Atlassian: API tokens of the cloud are open (below); Bitbucket app passwords.
    ("ATBB", rf"{_WORD}{{32}}"),
    # Model hosts: Groq, Perplexity, Replicate, OpenRouter, xAI, Databricks, Langfuse, LangSmith, Tavily.
    ("gsk_", rf"{_WORD}{{48,56}}"),
    ("pplx-", rf"{_WORD}{{48,56}}"),
    ("r8_", rf"{_WORD}{{37}}"),
    ("sk-or-v1-", rf"{_HEX}{{64}}"),
    ("xai-", rf"{_WORD}{{70,90}}"),
    ("dapi", rf"{_HEX}{{32}}(?:-\d)?"),
    ("sk-lf-", _UUID),
    ("lsv2_(?:pt|sk)_", rf"{_HEX}{{32}}_{_HEX}{{10}}"),
    ("tvly-", r"[A-Za-z0-9\-]{32,50}"),
    # Doppler: personal, CLI, service and audit tokens.
    (r"dp\.(?:pt|ct|st|sa|scim|audit)\.", r"(?:[a-z0-9\-_]{2,35}\.)?[A-Za-z0-9]{40,44}"),
    # Registries: Docker Hub, RubyGems, crates.io, NuGet, Clojars, JFrog Artifactory (two kinds).
    ("dckr_(?:pat|oat)_", rf"{_URL64}{{27,40}}"),
    ("rubygems_", rf"{_HEX}{{48}}"),
    (rf"cio{_WORD}{{8}}", rf"{_WORD}{{24}}"),
    ("oy2", "[a-z0-9]{43}"),
    ("CLOJARS_", "[a-z0-9]{60}"),
    ("(?:AKCp|cmVmd)", rf"(?:{_WORD}{{69}}|{_WORD}{{59}})"),
    # age (its specification): Bech32 of the identity.
    ("AGE-SECRET-KEY-1", "[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}"),
    # Sentry: user token (the organisation's are open, below).
    ("sntryu_", rf"{_HEX}{{64}}"),
    # Airtable, personal token: id and 64 hexadecimal digits. HubSpot: region and UUID.
    (rf"pat{_WORD}{{14}}\.", rf"{_HEX}{{64}}"),
    ("pat-[a-z]{2}[12]-", _UUID),
    # Plaid: access token with its environment and a UUID.
    ("access-(?:sandbox|development|production)-", _UUID),
    # CI and operations: Pulumi, Prefect, Octopus, OpenShift, Buildkite, CircleCI, SonarQube, Dynatrace.
    ("pul-", rf"{_HEX}{{40}}"),
    ("pnu_", rf"{_WORD}{{36}}"),
    ("API-[A-Z0-9]{8}", "[A-Z0-9]{18}"),
    ("sha256~", rf"{_URL64}{{43}}"),
    ("bkua_", rf"{_HEX}{{40}}"),
    ("CCIP(?:AT|RJ)_", rf"{_WORD}{{22}}_{_HEX}{{40}}"),
    ("sq[aup]_", rf"{_HEX}{{40}}"),
    (r"dt0[a-z]\d{2}\.", r"[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    # Payments and post: Flutterwave, Shippo, EasyPost.
    ("FLWSECK(?:_TEST)?-", r"[0-9a-z]{12,40}(?:-X)?"),
    ("shippo_(?:live|test)_", rf"{_HEX}{{40}}"),
    ("EZ[AT]K", rf"{_WORD}{{54}}"),
    # Alibaba Cloud, id of an access key.
    ("LTAI", rf"{_WORD}{{20}}"),
    # Content and design: Contentful, ReadMe, Duffel, Frame.io.
    ("CFPAT-", rf"{_URL64}{{43}}"),
    ("rdme_", "[a-z0-9]{70}"),
    ("duffel_(?:test|live)_", rf"{_URL64}{{43}}"),
    ("fio-u-", rf"{_URL64}{{64}}"),
)
"""(beginning, rest) of keys whose length is known: not inside a longer run of their own alphabet."""

OPEN: Final = (
    # GitHub, "Behind GitHub's new authentication token formats" (2021): personal, OAuth, user,
    # server and refresh tokens; 36 characters today, up to 255 reserved.
    ("gh[pousr]_", rf"{_WORD}{{36,255}}"),
    # GitLab, token overview: personal, 20 characters, longer and with dots when "routable"; then
    # deploy, runner, trigger, job, feed, mail, agent, OAuth and SCIM tokens.
    ("glpat-", rf"{_URL64}{{20,250}}(?:\.[a-z0-9]{{2}}\.?[a-z0-9]{{7,9}})?"),
    ("gl(?:dt|rt|ptt|cbt|ft|imt|agent|oas|soat)-", rf"{_URL64}{{20,250}}"),
    # Slack, "token types": bot, user, app-level, refresh, configuration and legacy tokens.
    (r"xox[abeoprs](?:\.xox[bp])?-", r"[A-Za-z0-9\-]{10,250}"),
    (r"xapp-\d-", r"[A-Z0-9]{8,}-\d{8,}-[a-z0-9]{32,128}"),
    # Stripe, "API keys": secret and restricted, live and test; the secrets of webhooks.
    ("[sr]k_(?:live|test)_", rf"{_WORD}{{16,250}}"),
    ("whsec_", rf"{_STD64}{{24,80}}={{0,2}}"),
    # OpenAI: project, service-account and admin keys; then the older ones without a kind.
    ("sk-(?:proj|svcacct|admin)-", rf"{_URL64}{{20,250}}"),
    (rf"sk-{_WORD}{{8}}", rf"{_WORD}{{24,120}}"),
    # Anthropic: kind and version, then some 95 of base 64 for URLs. ElevenLabs: hexadecimal.
    ("sk-ant-", rf"{_URL64}{{20,250}}"),
    (rf"sk_{_HEX}{{8}}", rf"{_HEX}{{40}}"),
    # PyPI, secret reporting guide: a macaroon in base 64, so every one begins with the same bytes
    # (version and site).
    ("pypi-AgE", rf"{_URL64}{{50,800}}"),
    # Google: OAuth access tokens.
    (r"ya29\.", rf"{_URL64}{{30,800}}"),
    # Grafana Cloud: JSON in base 64 behind the prefix.
    ("glc_eyJ", rf"{_STD64}{{30,400}}={{0,2}}"),
    # HashiCorp Vault: service, batch and recovery tokens.
    (r"hv[sbr]\.", rf"{_URL64}{{24,300}}"),
    # Atlassian: API tokens of the cloud, of users and of organisations.
    ("AT(?:ATT|CTT)3", r"[A-Za-z0-9_\-=]{60,250}"),
    # Vercel, "New token formats" (2026): personal, integration, app, refresh tokens, API keys.
    ("vc[pakir]_", rf"{_WORD}{{24,128}}"),
    # Netlify, Fly.io (three generations), Heroku, Tailscale.
    ("nf[pou]_", rf"{_WORD}{{36,64}}"),
    ("fo1_", rf"{_URL64}{{43}}"),
    ("fm(?:1[ar]|2)_", rf"{_STD64}{{100,900}}={{0,3}}"),
    ("HRKU-", rf"{_URL64}{{36,80}}"),
    ("tskey-(?:api|auth|client|scim|webhook)-", r"[A-Za-z0-9\-]{16,80}"),
    # 1Password: service accounts, JSON in base 64.
    ("ops_eyJ", rf"{_STD64}{{100,900}}={{0,3}}"),
    # Sentry: organisation token, JSON in base 64 and a secret.
    ("sntrys_eyJ", rf"{_STD64}{{20,400}}={{0,2}}_{_STD64}{{43}}"),
    # PlanetScale: service tokens, OAuth tokens, passwords.
    ("pscale_(?:tkn|oauth|pw)_", r"[A-Za-z0-9_=.\-]{32,64}"),
    # Figma, Dropbox (short-lived), PostHog (personal), Cloudflare (origin CA), Asana.
    ("figd_", rf"{_URL64}{{40,60}}"),
    (r"sl\.(?:u\.)?", rf"{_URL64}{{130,900}}"),
    ("phx_", rf"{_WORD}{{40,60}}"),
    (rf"v1\.0-{_HEX}{{24}}-", rf"{_HEX}{{146}}"),
    # Facebook and Square: access tokens that begin alike.
    ("EAA[AMC]", rf"{_URL64}{{57,400}}"),
    # Webhooks that post for whoever knows their address: Slack, Discord, Microsoft Teams.
    (r"https://hooks\.slack\.com/(?:services|workflows|triggers)/", r"[A-Za-z0-9/]{40,80}"),
    (r"https://(?:(?:ptb|canary)\.)?discord(?:app)?\.com/api/webhooks/", rf"\d{{17,20}}/{_URL64}{{60,80}}"),
    (r"https://[a-z0-9\-]{1,64}\.webhook\.office\.com/webhookb2/", r"[A-Za-z0-9@/\-]{100,250}"),
)
"""(beginning, rest) of keys that go on as far as their alphabet does."""

SHAPED: Final = (
    # Telegram, Bot API "authorizing your bot": the bot's number, then 35 characters.
    (rf"(?:^|[^\w])((?:bot)?\d{{8,10}}:AA{_URL64}{{33}})(?:[^\w\-]|$)", r"\d{8}:AA"),
    # Discord, bot token: the bot's number in base 64 (a digit comes first, so M, N or O), time, HMAC.
    (
        rf"(?:^|[^\w\-.])([MNO]{_URL64}{{23,27}}\.{_URL64}{{6}}\.{_URL64}{{27,40}})(?:[^\w\-]|$)",
        rf"\.{_URL64}{{6}}\.{_URL64}",
    ),
    # Mailchimp: 32 hexadecimal digits and the data centre. Mailgun: "key-" and 32 of them.
    (rf"\b({_HEX}{{32}}-us\d{{1,2}})\b", rf"{_HEX}-us\d"),
    (rf"(?:^|[^\w\-])(key-{_HEX}{{32}})(?:[^\w\-]|$)", rf"\bkey-{_HEX}{{32}}"),
    # Terraform Cloud: an id, the mark, the secret.
    (rf"\b([A-Za-z0-9]{{14}}\.atlasv1\.{_URL64}{{60,70}})", r"\.atlasv1\."),
    # Microsoft Entra, client secret: three characters, a digit, "Q~", 31 to 34 characters.
    (
        r"(?:^|[^\w~.\-])([A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.\-]{31,34})(?:[^\w~.\-]|\.\s|\.?$)",
        r"\dQ~",
    ),
    # Azure Storage, Service Bus and Cosmos DB: the key of a connection string, 32 or 64 bytes.
    (
        rf"(?i:(?:account|access)key=)({_STD64}{{43,86}}={{1,2}})",
        r"(?i)(?:account|access)key=",
    ),
    # Twitch: chat token.
    (r"\b(oauth:[a-z0-9]{30})\b", r"\boauth:[a-z0-9]{8}"),
    # AWS: the secret right behind its id.
    (
        rf"(?:AKIA|ASIA)[A-Z2-7]{{16}}[\"'\s,;:/|]{{1,5}}({_STD64}{{40}})(?:[^A-Za-z0-9+/=]|$)",
        r"\b(?:AKIA|ASIA)[A-Z2-7]{16}",
    ),
)
"""(pattern, screen) of keys that their beginning alone does not tell; the first group is the key.

A screen counts nothing that may begin at every character: in random letters, such as an image in base
64, the automaton of the pre-pass would need a new state for each of them.
"""
