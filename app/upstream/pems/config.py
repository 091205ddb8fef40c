"""How one PEMS is configured: where it is, who asks, and what it calls things."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec

from app.base.errors import ConfigurationError
from app.contracts import Contract

LOCAL = {"localhost", "127.0.0.1", "::1"}
# Fields of the contract that the adapter itself needs: whose a line is, and when it was last modified.
ORGANIZATION = "organization"
VERSION = "pemsVersion"

HeaderText = Annotated[str, msgspec.Meta(pattern=r"^[!-~](?:[ -~]*[!-~])?$")]
UrlPath = Annotated[str, msgspec.Meta(pattern=r"^/[!-~]*$")]
TimeFormat = Annotated[str, msgspec.Meta(pattern=r"^(?:%[YmdbHMSz]|[ T/.:-]){5,40}$")]


class Auth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`user` with a password, an API key, or a bearer token of OpenID Connect; of each secret where it is kept: an
    environment variable, or a file. It is read again when PEMS refuses it.
    """

    user: str | None = None
    password_env: str | None = None
    password_file: str | None = None
    api_key_env: str | None = None
    api_key_file: str | None = None
    bearer_env: str | None = None
    bearer_file: str | None = None

    def __post_init__(self) -> None:
        password = [name for name in (self.password_env, self.password_file) if name]
        key = [name for name in (self.api_key_env, self.api_key_file, self.bearer_env, self.bearer_file) if name]
        if len(password) + len(key) != 1 or (self.user is None) != bool(key):
            raise ValueError(
                "auth has user with passwordEnv or passwordFile, or else one of apiKeyEnv, apiKeyFile, bearerEnv and "
                "bearerFile"
            )
        if self.user is not None and ":" in self.user:
            raise ValueError("a user of Basic authentication has no colon in its name")

    @property
    def variable(self) -> str | None:
        """The environment variable that holds the secret."""
        return self.password_env or self.api_key_env or self.bearer_env

    @property
    def file(self) -> str | None:
        """The file that holds it."""
        return self.password_file or self.api_key_file or self.bearer_file


class Alias(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What PEMS calls a field in its grid, and on its screen where it can be written."""

    read: str
    write: str | None = None


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A spare field that PEMS leaves as it is written: its alias in the grid, and its name on the screen."""

    read: str
    write: str


class Grid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The grid that holds the lines, the screen that edits them, and where both are served.

    `dataspy`: the id of the view that shows all lines and columns; without it the account's default one applies.
    `localize`: whether cells are asked for in the locale of the account.
    """

    name: str = "CUPFAG"
    id: str = "100541"
    user_function: str = "CUPFAG"
    screen: str = "CUPFA2"
    data_path: UrlPath = "/axis/restservices/griddata"
    screen_path: UrlPath = "/axis/restservices/userdefinedscreenservices"
    dataspy: str | None = None
    localize: bool = False


class Locale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """How PEMS writes cells to this account. What is not said here is read where it has one meaning only.

    `date_order`: of 06/07/2024; `decimal_sign`: of 1,234; `zone`: of times without one, UTC where it is not said.
    `time_format`: in which filters take times, as strftime has it.
    """

    date_order: Literal["dayFirst", "monthFirst"] | None = None
    decimal_sign: Literal[".", ","] | None = None
    zone: str | None = None
    time_format: TimeFormat = "%Y-%m-%d %H:%M"

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.zone or "UTC")
        except (ValueError, OSError, KeyError):
            raise ValueError(f"there is no time zone {self.zone}") from None
        if not ("%Y" in self.time_format and "%d" in self.time_format and {"%m", "%b"} & set(_parts(self.time_format))):
            raise ValueError("timeFormat has a year (%Y), a month (%m or %b) and a day (%d)")

    @property
    def tz(self) -> ZoneInfo:
        """The zone of times that name none."""
        return ZoneInfo(self.zone or "UTC")


def _parts(time_format: str) -> list[str]:
    return [time_format[place : place + 2] for place in range(len(time_format) - 1) if time_format[place] == "%"]


class Writes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """How the screen is written to. A form that is not said here is the one in which the screen shows such a value.

    `update`: the whole record as it was read, with the changes laid over, or the changes alone. `year`: epoch
    milliseconds of its beginning, or four digits. `numbers`: an object, or a number. `flags`: as `true/false`.
    """

    update: Literal["record", "changes"] = "record"
    year: Literal["epoch", "calendar"] | None = None
    numbers: Literal["object", "bare"] | None = None
    flags: Literal["Y/N", "Yes/No", "+/-", "1/0", "-1/0", "true/false"] | None = None


class PemsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One PEMS for one dataset. Times in seconds; `requests_per_second` 0: as fast as may be.

    `organizations`: codes whose lines are wanted; new lines go to the first. `timeout` bounds a whole request, from its
    connection to the last byte of its answer. `mapping` replaces the names of single fields; null takes a field out.
    `token`: a spare field by which a new line is found whose answer was lost.
    """

    url: str
    tenant: HeaderText
    role: HeaderText | None = None
    organizations: Annotated[tuple[HeaderText, ...], msgspec.Meta(min_length=1)]
    auth: Auth
    requests_per_second: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    connect_timeout: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    page_size: Annotated[int, msgspec.Meta(ge=2, le=10_000)] = 1000
    insecure: bool = False
    mapping: dict[str, Alias | None] = {}
    grid: Grid = Grid()
    locale: Locale = Locale()
    writes: Writes = Writes()
    token: Token | None = None

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
    unmapped = fields - merged.keys() | {contract.text_key, ORGANIZATION, VERSION} - aliases.keys()
    if unmapped:
        raise ConfigurationError(f"mapping: {min(unmapped)} has no names in PEMS.")
    for name in (contract.text_key, ORGANIZATION):
        if aliases[name].write is None:
            raise ConfigurationError(f"mapping: {name} needs its name on the screen (write), which identifies a row.")
    return aliases


def laid_over(config: PemsConfig, mapping: Mapping[str, str | None]) -> PemsConfig:
    """The configuration with other names of fields in the grid, None for one that is read no more; on the screen they
    are called as before.
    """
    changed: dict[str, Alias | None] = {}
    for field, name in mapping.items():
        known = config.mapping.get(field) or MAPPING.get(field)
        changed[field] = None if name is None else Alias(read=name, write=None if known is None else known.write)
    return msgspec.structs.replace(config, mapping={**config.mapping, **changed})
