"""Passwords: which are taken, and how they are kept."""

import re

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.base.errors import Code, Culprit, ValidationFailed

SHORTEST, LONGEST = 10, 1000
# Everybody can read these: in the demonstration, in documents.
DEMONSTRATION = frozenset({"vanguard-demo", "correct horse battery", "correct horse battery staple"})

# What is tried first, wherever passwords are guessed; and rows of keys and alphabets, of which four count as none.
COMMON = (
    "password passwort passwd kennwort motdepasse contrasena senha welcome willkommen bienvenue hello letmein "
    "changeme admin administrator root user guest test demo temp default secret geheim login master access "
    "vanguard company firma iloveyou love sunshine princess dragon monkey shadow superman batman football "
    "baseball soccer hockey michael jordan summer sommer winter spring autumn herbst january february march april "
    "june july august september october november december monday friday sunday montag freitag hallo ciao computer "
    "internet server database postgres qwerty qwertz azerty starwars pokemon freedom whatever trustno1 charlie "
    "thomas hunter killer flower cheese 1q2w3e4r 1qaz2wsx"
).split()
ROWS = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl", "zxcvbnm")
LEAST_OF_A_ROW, LEAST_LEFT, LEAST_DIFFERENT = 4, 5, 5
YEAR = re.compile(r"(?:19|20)\d\d")
# As letters are often written.
WRITTEN = str.maketrans("4@301!$57", "aaeoiisst")

# RFC 9106's second choice: 64 MiB and three passes.
HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)


def hash_password(password: str) -> str:
    """The hash to store; slow by design. `check_password` comes before it."""
    return HASHER.hash(password)


def matches(stored: str, password: str) -> bool:
    """Whether the password belongs to the stored hash; slow by design."""
    try:
        return HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def check_password(password: str, *, strict: bool, email: str = "", name: str = "") -> None:
    """Raises ValidationFailed for a password that is too short or too long; where it is `strict`, also for one that
    everybody knows or that is soon guessed.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise _unusable(f"A password has {SHORTEST} to {LONGEST} characters.")
    if not strict:
        return
    if is_demonstration(password):
        raise _unusable("This is a password of the documentation, which everybody knows. Choose another.")
    if _is_weak(password.casefold(), re.findall(r"\w{3,}", f"{email} {name}".casefold())):
        raise _unusable(
            "This password is too weak: a repetition, or little more than names, years, rows of keys and words that "
            "are tried first. Several uncommon words make a good one."
        )


def is_demonstration(password: str) -> bool:
    """Whether everybody can read this password in the documentation."""
    return password.casefold() in DEMONSTRATION


def _is_weak(text: str, own: list[str]) -> bool:
    """Whether too little is left without what is tried first. Takes a few milliseconds at most."""
    if len(set(text)) < LEAST_DIFFERENT:
        return True
    return any(len(_left(each, own)) < LEAST_LEFT for each in (text, YEAR.sub("", text).translate(WRITTEN)))


def _left(text: str, own: list[str]) -> str:
    # What is repeated counts once.
    for size in range(1, len(text) // 2 + 1):
        if len(text) % size == 0 and text[:size] * (len(text) // size) == text:
            text = text[:size]
            break
    for word in (*own, *COMMON):
        text = text.replace(word, "")
    return "".join(_without_rows(YEAR.sub("", text)))


def _without_rows(text: str) -> list[str]:
    """The first characters, as many as are needed, that do not stand in four or more beside each other of a row, in
    either direction.
    """
    left: list[str] = []
    at = 0
    while at < len(text) and len(left) < LEAST_LEFT:
        length = max(_length(text, at, row) for each in ROWS for row in (each, each[::-1]))
        if length < LEAST_OF_A_ROW:
            left.append(text[at])
            length = 1
        at += length
    return left


def _length(text: str, at: int, row: str) -> int:
    """How much of the row follows from here on."""
    start = row.find(text[at])
    length = 0
    while start >= 0 and at + length < len(text) and row[start + length : start + length + 1] == text[at + length]:
        length += 1
    return length


def _unusable(message: str) -> ValidationFailed:
    return ValidationFailed(message, errors=[Culprit(code=Code.INVALID_VALUE, message=message, field="password")])
