"""Secrets in a text: keys and tokens that say by their own form what they are, so that hardly anything else matches.

Forms are those the issuers publish, or that GitHub's secret scanning documents. A password that is only a word after
'password:' has no such form and is not looked for.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator

_TOKENS = (
    r"(?:AKIA|ASIA)[A-Z2-7]{16}",  # AWS access key id
    r"gh[pousr]_[A-Za-z0-9]{36,251}",  # GitHub
    r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
    r"glpat-[A-Za-z0-9_-]{20,64}",  # GitLab
    r"xox[abeoprs]-(?:\d{1,2}-)?\d{8,14}-[A-Za-z0-9-]{20,200}",  # Slack
    r"AIza[A-Za-z0-9_-]{35}",  # Google
    r"[sr]k_live_[A-Za-z0-9]{24,128}",  # Stripe
    r"sk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{20,100}T3BlbkFJ[A-Za-z0-9_-]{20,100}",  # OpenAI
    r"sk-ant-[a-z0-9]{3,8}-[A-Za-z0-9_-]{80,120}",  # Anthropic
    r"hf_[A-Za-z]{34}",  # Hugging Face
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-AgE[A-Za-z0-9_-]{50,300}",
    r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",  # SendGrid
    r"do[por]_v1_[a-f0-9]{64}",  # DigitalOcean
    r"\d{8,10}:AA[A-Za-z0-9_-]{33}",  # Telegram bot
)
TOKEN = re.compile(rf"(?<![A-Za-z0-9_/+-])(?:{'|'.join(_TOKENS)})(?![A-Za-z0-9_-])")
# What a text must hold for TOKEN to be worth trying at every place of it.
HINTS = re.compile(r"AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox|AIza|k_live_|sk-|hf_|npm_|pypi-|SG\.|_v1_|:AA")
AWS_SECRET = re.compile(
    r"(?i:aws_?secret_?(?:access_?)?key)[\"']?\s{0,3}[:=]\s{0,3}[\"']?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"
)
JWT = re.compile(r"(?<![\w-])eyJ[\w-]{10,2000}\.eyJ[\w-]{10,8000}\.[\w-]{20,2000}(?![\w-])")
# Between two lines of a key: also as it stands in JSON, in source code and in a quoted mail.
_BREAK = r"(?:[\s\"'>]|\\[rn]|\+\s)"
_HEADER = (  # RFC 1421 and RFC 9580; any other 'Header: value' may be prose
    r"(?:(?:Proc-Type|DEK-Info): ?[\w,-]{1,100}+"
    r"|(?:Version|Comment|Charset|Hash|MessageID|Subject): ?[^\n\\]{0,200}+(?=\n|\\n))"
)
# Lines of 40 characters or more; a shorter one is the key's last only before its end or with padding.
KEY = re.compile(
    r"-----BEGIN ((?:[A-Z]{2,10} ){0,2}PRIVATE KEY(?: BLOCK)?)-----"
    rf"(?:{_BREAK}*+{_HEADER})*+(?:{_BREAK}*+[A-Za-z0-9+/=]{{40,}}+)++"
    rf"(?:(?:{_BREAK}++[A-Za-z0-9+/=]{{1,39}}+){{0,2}}+{_BREAK}*+-----END \1-----"
    rf"|{_BREAK}++[A-Za-z0-9+/]{{1,38}}+={{1,2}}+)?"
)
LOGIN = re.compile(r"(?<=://)[\w.%+-]{1,64}:([^\s:@/<>{}\[\]$*]{4,128})(?=@[A-Za-z0-9][\w.-]{1,253})")
EXAMPLE = re.compile(r"(?i)pass|pwd|secret|x{3}|\.{3}|token|key|changeme|1234|foo|bar|example|test|user|admin|guest")


def find(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each, in order of their start."""
    found: list[tuple[int, int]] = []
    if "PRIVATE KEY" in text:
        found += [match.span() for match in KEY.finditer(text)]
    if HINTS.search(text):
        found += [match.span() for match in TOKEN.finditer(text)]
    if "eyJ" in text:
        found += [match.span() for match in JWT.finditer(text) if _is_jwt(match[0])]
    if "ecret" in text or "ECRET" in text:
        found += [match.span(1) for match in AWS_SECRET.finditer(text)]
    if "://" in text and "@" in text:
        found += [match.span() for match in LOGIN.finditer(text) if not EXAMPLE.search(match[1])]
    yield from sorted(found)


def _is_jwt(token: str) -> bool:
    """Whether its first part names an algorithm (RFC 7515, section 4.1.1)."""
    head = token.split(".", 1)[0]
    try:
        return "alg" in json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, ValueError, TypeError):
        return False
