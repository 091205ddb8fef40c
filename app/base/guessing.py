"""Secrets of the settings: whether one can be guessed, though it is long enough, and whether a request has it."""

import hmac
from itertools import pairwise
from urllib.parse import unquote, urlsplit

from app.base.listening import is_public

FEWEST_DIFFERENT = 8  # characters: 32 hexadecimal digits by chance have fewer once in ten million
FEWEST_SURPRISES = 13  # of the same digits some 25 are none that the ones before lead to
REPEATED = 3  # characters that came before in this order

# In these orders, either way, anybody goes on.
ORDERS = (
    *("abcdefghijklmnopqrstuvwxyz", "01234567890"),
    *("qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "yxcvbnm", "azertyuiop", "qsdfghjklm", "wxcvbn"),
    *("!@#$%^&*()", '!"§$%&/()=', "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p"),
)
NEXT = {pair for order in ORDERS for pair in pairwise(order)}
NEXT |= {(after, before) for before, after in NEXT}

# What documentation has in a secret's place, without what stands between words.
PLACEHOLDERS = (
    *(f"{verb}{what}" for verb in ("change", "replace", "rename", "edit") for what in ("me", "this", "it")),
    *(f"{whose}secret" for whose in ("your", "my", "the", "super", "top")),
    *("secretkey", "placeholder", "example", "password", "passphrase", "32characters", "inserthere"),
)
BETWEEN = str.maketrans("", "", " -_./:+")
# Passwords that come with a database, and that everybody tries first.
KNOWN = {"admin", "changeme", "database", "letmein", "passwd", "password", "pg", "root", "secret", "test", "user"}
KNOWN |= {"postgres", "postgresql", "vanguard", "vanguard-demo"}


def weakness(secret: str) -> str | None:
    """Why it can be guessed, in words that follow on its name; None where nothing speaks for that."""
    plain = secret.lower().translate(BETWEEN)
    if any(word in plain for word in PLACEHOLDERS):
        return "is what stands in documentation in place of a secret"
    if len(set(secret)) < FEWEST_DIFFERENT:
        return f"has fewer than {FEWEST_DIFFERENT} different characters"
    if surprises(secret) < FEWEST_SURPRISES:
        return "repeats itself, counts, or follows the keys of a keyboard"
    return None


def surprises(secret: str) -> int:
    """How many of its characters nobody would guess from those before them."""
    text = secret.lower()
    return sum(not _follows(text, place) for place in range(len(text)))


def _follows(text: str, place: int) -> bool:
    """Whether the character is that of before, the next one of an order, or the end of what has been there already."""
    if place == 0:
        return False
    pair = (text[place - 1], text[place])
    if pair[0] == pair[1] or pair in NEXT:
        return True
    seen = text[max(0, place - REPEATED + 1) : place + 1]
    return len(seen) == REPEATED and seen in text[:place]


def holds_token(token: str, authorization: str) -> bool:
    """Whether the header Authorization has the token; it takes alike long whatever it has."""
    scheme, _, given = authorization.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


def weak_password(address: str) -> str | None:
    """The same of the password in a database's address, where others than this machine reach that database."""
    try:
        parts = urlsplit(address)
        user, password, host = unquote(parts.username or ""), unquote(parts.password or ""), parts.hostname or ""
    except ValueError:
        return None
    if not password or not host or not is_public(host):
        return None
    word = password.lower()
    if word in KNOWN or word in (user.lower(), host.lower(), parts.path.strip("/").lower()):
        return "is one that everybody tries first"
    if len(set(word)) < 4 or surprises(word) < 4:
        return "repeats itself, counts, or follows the keys of a keyboard"
    return None
