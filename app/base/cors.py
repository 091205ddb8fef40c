"""Origins that may call from browsers: each one exactly as a browser writes it, since it is compared, and may do as
whoever is logged in.
"""

import ipaddress
import re

from app.base.errors import ConfigurationError
from app.base.listening import is_public

NAME = "VANGUARD_CORS_ORIGIN"
ORIGIN = re.compile(r"(?P<scheme>[a-z]+)://(?P<host>\[[0-9a-f:]+\]|[a-z0-9_.-]+)(:(?P<port>[1-9][0-9]{0,4}))?")
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
USUAL = {"http": "80", "https": "443"}


def check_origin(origin: str) -> None:
    """Raises ConfigurationError that says what is wrong with it."""
    if "*" in origin:
        raise _refuse(origin, "names no origin: list each one, since credentials are allowed")
    found = ORIGIN.fullmatch(origin)
    if found is None:
        raise _refuse(origin, _look(origin))
    scheme, host, port = found["scheme"], found["host"], found["port"]
    if scheme not in USUAL:
        raise _refuse(origin, "is neither https nor http")
    if not _is_host(host):
        raise _refuse(origin, "has no host as browsers write it")
    if port is not None and int(port) > 65535:
        raise _refuse(origin, "has no port that there is")
    if port == USUAL[scheme]:
        raise _refuse(origin, f"has the port that is meant anyway, which browsers leave out: {scheme}://{host}")
    if scheme == "http" and _is_elsewhere(host.strip("[]")):
        raise _refuse(origin, "has no TLS: whoever is on the line could write its pages. Say https")


def _look(origin: str) -> str:
    """Why it is not of the form, for what happens often."""
    scheme, slashes, rest = origin.partition("://")
    if origin == "null":
        return "is what a browser says of any file and any frame that is shut in: everybody's"
    if not slashes or not scheme:
        return "has no scheme"
    if "@" in rest:
        return "has a user in it"
    if any(mark in rest for mark in "/?#"):
        return "has more than scheme, host and port, and be it a slash in the end"
    if origin != origin.lower():
        return "has capitals, which no browser sends"
    if not origin.isascii():
        return "has letters beyond ASCII: write the host as browsers send it (xn--...)"
    return "is no origin"


def _is_host(host: str) -> bool:
    if host.startswith("[") or re.fullmatch(r"[0-9.]+", host):
        try:
            return str(ipaddress.ip_address(host.strip("[]"))) == host.strip("[]")
        except ValueError:
            return False
    return len(host) <= 253 and all(LABEL.fullmatch(label) for label in host.split("."))


def _is_elsewhere(host: str) -> bool:
    return is_public(host) and not host.endswith(".localhost")


def _refuse(origin: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"{NAME}: {origin[:200]!r} {why}. An origin is https://plan.example, or with a port.")
