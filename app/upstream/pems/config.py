"""How one PEMS is configured: where it is, who asks, and what it calls things."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from app.base.errors import ConfigurationError
from app.contracts import Contract

LOCAL = {"localhost", "127.0.0.1", "::1"}
# Fields of the contract that the adapter itself needs: whose a line is, and when it was last modified.
ORGANIZATION = "organization"
VERSION = "pemsVersion"

HeaderText = Annotated[str, msgspec.Meta(pattern=r"^[!-~](?:[ -~]*[!-~])?$")]
UrlPath = Annotated[str, msgspec.Meta(pattern=r"^/[!-~]*$")]


class Auth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`user` with a password, or an API key; of each secret where it is kept: an environment variable, or a file."""

    user: str | None = None
    password_env: str | None = None
    password_file: str | None = None
    api_key_env: str | None = None
    api_key_file: str | None = None

    def __post_init__(self) -> None:
        password = [name for name in (self.password_env, self.password_file) if name]
        key = [name for name in (self.api_key_env, self.api_key_file) if name]
        if len(password) + len(key) != 1 or (self.user is None) != bool(key):
            raise ValueError("auth has user with passwordEnv or passwordFile, or else apiKeyEnv or apiKeyFile")
        if self.user is not None and ":" in self.user:
            raise ValueError("a user of Basic authentication has no colon in its name")


class Alias(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What PEMS calls a field in its grid, and on its screen where it can be written."""

    read: str
    write: str | None = None


class Grid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The grid that holds the lines, the screen that edits them, and where both are served."""

    name: str = "CUPFAG"
    id: str = "100541"
    user_function: str = "CUPFAG"
    screen: str = "CUPFA2"
    data_path: UrlPath = "/axis/restservices/griddata"
    screen_path: UrlPath = "/axis/restservices/userdefinedscreenservices"


class PemsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One PEMS for one dataset. Times in seconds; `requests_per_second` 0: as fast as may be.

    `organizations`: codes whose lines are wanted; new lines go to the first. `timeout` bounds a whole request, from its
    connection to the last byte of its answer. `mapping` replaces the names of single fields; null takes a field out.
    """

    url: str
    tenant: HeaderText
    role: HeaderText
    organizations: Annotated[tuple[HeaderText, ...], msgspec.Meta(min_length=1)]
    auth: Auth
    requests_per_second: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    connect_timeout: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    page_size: Annotated[int, msgspec.Meta(ge=2, le=10_000)] = 1000
    insecure: bool = False
    mapping: dict[str, Alias | None] = {}
    grid: Grid = Grid()

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise ValueError("url is not an address") from None
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError("url begins with https:// and names a host")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError("url has neither user and password, which belong into auth, nor anything after its path")
        if parts.scheme == "http" and host not in LOCAL and not self.insecure:
            raise ValueError(
                'url is http:// and would send the password in the clear; if you want that, "insecure": true'
            )


# What PEMS calls the fields of the built-in dataset.
MAPPING = msgspec.json.decode(Path(__file__).with_name("pems.json").read_bytes(), type=dict[str, Alias])


def aliases_of(contract: Contract, config: PemsConfig) -> dict[str, Alias]:
    """The names of the contract's fields; raises ConfigurationError."""
    fields = {field.name for field in contract.fields if not field.derived_from}
    unknown = config.mapping.keys() - fields
    if unknown:
        raise ConfigurationError(f"mapping: {contract.name} has no field {min(unknown)} that PEMS could hold.")
    merged: dict[str, Alias | None] = {**MAPPING, **config.mapping}
    aliases = {name: alias for name, alias in merged.items() if alias is not None and name in fields}
    unmapped = fields - merged.keys() | {contract.key, ORGANIZATION, VERSION} - aliases.keys()
    if unmapped:
        raise ConfigurationError(f"mapping: {min(unmapped)} has no names in PEMS.")
    for name in (contract.key, ORGANIZATION):
        if aliases[name].write is None:
            raise ConfigurationError(f"mapping: {name} needs its name on the screen (write), which identifies a row.")
    return aliases
