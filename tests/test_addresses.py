"""Whose request it is: the connection's address, or what a trusted proxy says of it."""

import time
from ipaddress import ip_address, ip_network
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.base.errors import ConfigurationError
from app.base.settings import check, read_settings
from app.web.addresses import MOST_PROXIES, NOBODY, client_address, read_address
from tests.support.world import SECRET, World, asgi, open_world

PROXIES = ("10.0.0.0/8", "192.0.2.10", "2001:db8:ffff::/48")


def address(peer: str | None, *forwarded: str, trusted: tuple[str, ...] = PROXIES) -> str:
    """The client's address for a peer and X-Forwarded-For headers."""
    headers = [(b"x-forwarded-for", each.encode("latin-1")) for each in forwarded]
    scope: Any = {"client": (peer, 5000) if peer is not None else None, "headers": [(b"host", b"x"), *headers]}
    return client_address(scope, trusted)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        # Nobody to trust: the header is the client's own words.
        ("203.0.113.1", ["198.51.100.1"], "203.0.113.1"),
        ("203.0.113.1", ["10.0.0.1"], "203.0.113.1"),
        ("2001:db8::1", ["198.51.100.1"], "2001:db8::/64"),
        # One proxy, several, and what the client says left of them.
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 10.9.9.9, 192.0.2.10"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.66, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.66, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        # Nothing said, and trusted ones only.
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # Several headers are one list.
        ("10.0.0.1", ["203.0.113.66", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1", ""], "198.51.100.1"),
        ("10.0.0.1", [" , 198.51.100.1 ,, "], "198.51.100.1"),
        # Ports, brackets, zones, blanks.
        ("10.0.0.1", ["198.51.100.1:443"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8:1:2::9]:443"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["[2001:db8:1:2::9]"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["2001:DB8:1:2:0:0:0:9"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["fe80::1%eth0"], "fe80::/64"),
        ("10.0.0.1", ["\t198.51.100.1 "], "198.51.100.1"),
        # IPv4 within IPv6 is IPv4, of the peer and of a proxy too.
        ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["[::ffff:198.51.100.1]:80"], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1, ::ffff:192.0.2.10"], "198.51.100.1"),
        ("::ffff:203.0.113.1", ["198.51.100.1"], "203.0.113.1"),
        ("2001:db8:ffff::7", ["198.51.100.1"], "198.51.100.1"),
        # Garbage ends the list: the last address that is known counts.
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.1;10.0.0.2"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:99999999"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:"], "10.0.0.1"),
        ("10.0.0.1", ["[198.51.100.1"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1]:80"], "10.0.0.1"),
        ("10.0.0.1", ["[2001:db8::1]80"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.01"], "10.0.0.1"),
        ("10.0.0.1", ["3325256705"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1/32"], "10.0.0.1"),
        ("10.0.0.1", ["\xff\xfe"], "10.0.0.1"),
        ("10.0.0.1", ["x" * 100_000], "10.0.0.1"),
        # A socket without addresses.
        (None, ["198.51.100.1"], NOBODY),
        ("", ["198.51.100.1"], NOBODY),
        ("/run/vanguard.sock", ["198.51.100.1"], "/run/vanguard.sock"),
    ],
)
def test_the_first_from_the_right_that_is_not_trusted_is_the_client(
    peer: str | None, forwarded: list[str], expected: str
) -> None:
    assert address(peer, *forwarded) == expected


def test_without_a_setting_nobody_is_trusted() -> None:
    for peer in ("127.0.0.1", "10.0.0.1", "::1"):
        assert address(peer, "198.51.100.1", trusted=()) == address(peer, trusted=())


def test_a_trusted_network_of_ipv4_within_ipv6_is_one_of_ipv4() -> None:
    assert address("10.0.0.1", "198.51.100.1", trusted=("::ffff:10.0.0.0/104",)) == "198.51.100.1"


@pytest.mark.timed
def test_a_long_list_costs_little() -> None:
    """10,000 entries, and 10,000 headers, are read from the right, no further than anybody has proxies."""
    began = time.perf_counter()
    assert address("10.0.0.1", ", ".join(["203.0.113.9"] * 9_999 + ["198.51.100.1"])) == "198.51.100.1"
    assert address("10.0.0.1", ", ".join(["10.0.0.2"] * 10_000)) == "10.0.0.2"
    assert address("10.0.0.1", *["10.0.0.2"] * 10_000) == "10.0.0.2"
    assert address("10.0.0.1", "," * 400_000) == "10.0.0.1"
    assert address("10.0.0.1", "198.51.100.1" + ",10.0.0.2" * MOST_PROXIES) == "10.0.0.2"
    assert address("10.0.0.1", "198.51.100.1" + ",10.0.0.2" * (MOST_PROXIES - 1)) == "198.51.100.1"
    assert time.perf_counter() - began < 1


@given(st.text(max_size=80))
@example("1" * 64)
@example("%")
@example("[]")
@example(":")
@example("[::1]:")
def test_any_text_is_an_address_or_none(text: str) -> None:
    read = read_address(text)
    assert read is None or read == ip_address(str(read))


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=60), max_size=4), st.ip_addresses())
def test_what_a_client_says_does_not_count_behind_a_proxy(said: list[str], client: Any) -> None:
    """Given any headers of a client, when the proxy adds its address, then that is what counts."""
    told = str(getattr(client, "ipv4_mapped", None) or client)
    expected = told if ":" not in told else str(ip_network(f"{told}/64", strict=False))
    assert address("198.18.0.1", *said, str(client), trusted=("198.18.0.1",)) == expected or told == "198.18.0.1"


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=60), max_size=4))
def test_what_a_client_says_does_not_count_without_one(said: list[str]) -> None:
    assert address("203.0.113.1", *said) == "203.0.113.1"


@pytest.mark.parametrize("wrong", ["proxy", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0-10.0.0.9", "[::1]", "1.2.3.4:80"])
def test_a_setting_that_is_no_network_is_refused_at_the_start(wrong: str) -> None:
    environment = {"DATABASE_URL": "x", "VANGUARD_SECRET": SECRET, "VANGUARD_TRUSTED_PROXIES": f"10.0.0.1, {wrong}"}
    with pytest.raises(ConfigurationError, match=r"VANGUARD_TRUSTED_PROXIES: '.*' is neither"):
        read_settings(environment)


def test_addresses_and_networks_are_taken() -> None:
    environment = {
        "DATABASE_URL": "x",
        "VANGUARD_SECRET": SECRET,
        "VANGUARD_TRUSTED_PROXIES": "10.0.0.0/8, ::1,1.2.3.4",
    }
    settings = read_settings(environment)
    check(settings)
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1", "1.2.3.4")


async def from_(world: World, peer: str, forwarded: str) -> int:
    """The status of a login that fails, or has to wait."""
    transport = asgi(world.application, client=(peer, 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://vanguard.test", timeout=60) as client:
        body = {"email": "x@x.example", "password": "x"}
        return (await client.post("/api/auth/login", json=body, headers={"X-Forwarded-For": forwarded})).status_code


async def test_logins_are_counted_by_it(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the proxy each client for itself, whatever they say; and who is no proxy can say what they like."""
    monkeypatch.setattr("app.passwords.matches", lambda *_: False)
    more: dict[str, Any] = {"trusted_proxies": ("10.0.0.1",), "login_failures": 2}
    async with open_world(database_url, **more) as world:
        assert [await from_(world, "10.0.0.1", f"203.0.113.{n}, 198.51.100.1") for n in range(3)] == [401, 401, 429]
        assert await from_(world, "10.0.0.1", "198.51.100.1, 198.51.100.2") == 401
        assert [await from_(world, "10.0.0.2", f"198.51.100.{n}") for n in range(3, 6)] == [401, 401, 429]
