"""Secrets that are long enough and can be guessed all the same."""

import random
import re
import string
from pathlib import Path

import pytest

from app.base.errors import ConfigurationError
from app.base.guessing import FEWEST_SURPRISES, surprises, weak_password, weakness
from app.base.settings import read_settings
from tests.support.world import SECRET

ROOT = Path(__file__).parent.parent

WEAK = [
    "s" * 32,
    "0" * 64,
    "ab" * 16,
    "0" * 31 + "1",
    "abcdefgh" * 4,
    "Vanguard1!" * 4,
    "0123456789" * 4,
    "9876543210" * 4,
    "abcdefghijklmnopqrstuvwxyz0123456789",
    "ZYXWVUTSRQPONMLKJIHGFEDCBA98765432",
    "aAbBcCdDeEfFgGhHiIjJkKlLmMnNoOpPqQrR",
    "qwertyuiopasdfghjklzxcvbnm123456",
    "qwertzuiopasdfghjklyxcvbnm1234567",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,",
    "!@#$%^&*()qwertyuiop!@#$%^&*()qwerty",
    "passwordpasswordpasswordpassword",
    "change-me-" * 4,
    "changeme and something that is long",
    "your-secret-goes-here-until-tomorrow",
    "My super secret key of the installation",
    "set VANGUARD_SECRET, 32 characters or more",
]


@pytest.mark.parametrize("secret", WEAK)
@pytest.mark.parametrize("name", ["VANGUARD_SECRET", "VANGUARD_METRICS_TOKEN"])
def test_a_secret_that_can_be_guessed_is_refused(name: str, secret: str) -> None:
    environment = {"DATABASE_URL": "postgresql://a/b", "VANGUARD_SECRET": SECRET, name: secret}
    with pytest.raises(ConfigurationError, match=f"^{name} .*openssl rand") as refused:
        read_settings(environment)
    assert secret not in str(refused.value), "it is told nowhere"


def test_what_was_made_by_chance_is_taken() -> None:
    """The shortest that may be, of the fewest letters that anybody makes them of, and further from the bound than
    chance goes.
    """
    chance = random.Random(1)
    for alphabet in (string.hexdigits[:16], string.ascii_lowercase, string.ascii_letters + string.digits + "-_"):
        for _ in range(2000):
            secret = "".join(chance.choices(alphabet, k=32))
            assert weakness(secret) is None, secret
            assert surprises(secret) > FEWEST_SURPRISES
    assert weakness("a phrase of several words that nobody has said before") is None


def test_what_documents_and_files_show_in_its_place_is_refused() -> None:
    files = [ROOT / "README.md", ROOT / "docker-compose.yml", *(ROOT / "docs").glob("*.md")]
    shown = re.compile(r"VANGUARD_(?:SECRET|METRICS_TOKEN)(?:=|: *)(?P<value>[^\s`|]+)")
    found = {match["value"] for file in files for match in shown.finditer(file.read_text())}
    for value in found:
        # Made on the spot, named by a variable, or left out.
        assert "$" in value or value.startswith(("...", "'%s", "%s")) or weakness(value), value


def test_one_secret_is_not_both() -> None:
    environment = {"DATABASE_URL": "x", "VANGUARD_SECRET": SECRET, "VANGUARD_METRICS_TOKEN": SECRET}
    with pytest.raises(ConfigurationError, match="VANGUARD_METRICS_TOKEN is VANGUARD_SECRET"):
        read_settings(environment)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://vanguard:vanguard@database:5432/vanguard",
        "postgresql://ann:Postgres@database/plans",
        "postgresql://ann:ann@10.0.0.7/plans",
        "postgresql://ann:plans@db.example/plans",
        "postgresql://ann:db@db/plans",
        "postgresql://ann:aaaaaaaaaaaa@db/plans",
        "postgresql://ann:12345678@db/plans",
        "postgresql://ann:qwertyuiop@db/plans",
        "postgresql://ann:%70assword@db/plans",
    ],
)
@pytest.mark.parametrize("name", ["DATABASE_URL", "VANGUARD_DATABASE_URL", "VANGUARD_OWNER_URL"])
def test_a_databases_password_that_everybody_tries_first_is_refused(name: str, address: str) -> None:
    environment = {"DATABASE_URL": "postgresql://a/b", "VANGUARD_SECRET": SECRET, name: address}
    with pytest.raises(ConfigurationError, match=r"^The password in VANGUARD_(DATABASE|OWNER)_URL ") as refused:
        read_settings(environment)
    assert address not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://postgres:postgres@localhost/vanguard",
        "postgresql://postgres:postgres@127.0.0.1:5432/vanguard",
        "postgresql://postgres:postgres@[::1]/vanguard",
        "postgresql://vanguard@/vanguard?host=/run/pg",
        "postgresql://vanguard@database/vanguard",
        "postgresql://vanguard:5fb0c8d2a91e@database/vanguard",
        "postgresql://ann:vanguard@[",  # is refused by whoever connects
        "x",
    ],
)
def test_a_password_that_is_none_or_that_only_this_machine_may_use_is_nobodys_business(address: str) -> None:
    assert weak_password(address) is None
