"""Whose request it is, by address: the connection's, or what a trusted proxy says of it.

Everything that counts by address asks here.
"""

import ipaddress
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

from litestar.types import HTTPScope

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

FORWARDED = b"x-forwarded-for"
PROTOCOL = b"x-forwarded-proto"
# What proxies add, each kind at least one of them.
PASSED_ON = {FORWARDED, PROTOCOL, b"forwarded", b"via", b"x-forwarded-host", b"x-real-ip"}
# Nobody has so many proxies in a row; what lies further left is somebody's invention.
MOST_PROXIES = 20
LONGEST_ENTRY = 64  # [ffff:...:ffff%zone]:65535
NOBODY = "unknown"


def client_address(scope: HTTPScope, trusted: tuple[str, ...]) -> str:
    """The client's address, in one form for each; of an IPv6 address the network, since everybody has 2^64 of them.

    A trusted proxy adds whom it has the request from at the right of X-Forwarded-For. So the list is read from there,
    past the trusted ones: the first that is none is the client. What stands left of it is the client's own words. Where
    the list ends, or goes on with what is no address, the last one that is known counts.
    """
    peer = scope.get("client")
    client = read_address(peer[0]) if peer else None
    if client is None:
        return peer[0][:LONGEST_ENTRY] if peer and peer[0] else NOBODY
    networks = _networks(trusted)
    if _is_trusted(client, networks):
        for said in _from_the_right(scope):
            before = read_address(said)
            if before is None:
                break
            client = before
            if not _is_trusted(client, networks):
                break
    return str(client) if client.version == 4 else str(ipaddress.ip_network((client, 64), strict=False))


def is_https(scope: HTTPScope, trusted: tuple[str, ...]) -> bool:
    """Whether the client came by TLS: the connection did, or a trusted proxy says so. Of a list that several proxies
    have written the last entry counts, of the one that is next to us.
    """
    if scope["scheme"] == "https":
        return True
    said = [value for name, value in scope["headers"] if name == PROTOCOL] if trusted else []
    if not said or said[-1].rpartition(b",")[2].strip(b" \t").lower() != b"https":
        return False
    peer = scope.get("client")
    return peer is not None and _is_proxy(peer[0], trusted)


def is_local(scope: HTTPScope) -> bool:
    """Whether the client is on this machine, and no proxy here that speaks for somebody else."""
    peer = scope.get("client")
    address = read_address(peer[0]) if peer else None
    return address is not None and address.is_loopback and not any(name in PASSED_ON for name, _ in scope["headers"])


@lru_cache(maxsize=256)
def _is_proxy(peer: str, trusted: tuple[str, ...]) -> bool:
    address = read_address(peer)
    return address is not None and _is_trusted(address, _networks(trusted))


def read_address(text: str) -> Address | None:
    """An address as proxies write it: with a port, in brackets, with a zone; an IPv4 address within IPv6 is itself."""
    text = text.strip(" \t")
    if len(text) > LONGEST_ENTRY:
        return None
    if text.startswith("["):
        text, closed, port = text[1:].partition("]")
        if not closed or (port and not _is_port(port)):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(f":{port}"):
            return None
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_port(text: str) -> bool:
    return text.startswith(":") and 1 < len(text) < 7 and text[1:].isascii() and text[1:].isdigit()


def _is_trusted(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


def _from_the_right(scope: HTTPScope) -> Iterator[str]:
    """The entries of all X-Forwarded-For headers, the last one first, and no more than anybody has proxies."""
    left = MOST_PROXIES
    for name, value in reversed(list(scope["headers"])):
        if name != FORWARDED:
            continue
        end = len(value)
        while end >= 0 and left > 0:
            start = value.rfind(b",", 0, end)
            entry = value[start + 1 : end].strip(b" \t")
            end, left = start, left - 1
            if entry:  # lists may have empty elements (RFC 9110, 5.6.1)
                yield entry.decode("latin-1")


@lru_cache(maxsize=16)
def _networks(trusted: tuple[str, ...]) -> tuple[Network, ...]:
    networks = [ipaddress.ip_network(network) for network in trusted]
    # A peer over IPv4 can look like IPv6 to a socket that takes both; its address is read as IPv4.
    return tuple(_unmapped(network) for network in networks)


def _unmapped(network: Network) -> Network:
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped is not None:
        return ipaddress.ip_network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network
