"""Where each upstream is: the file that VANGUARD_UPSTREAMS names. docs/settings.md describes it."""

from collections.abc import Callable
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from app.base.errors import ConfigurationError
from app.contracts import Contract
from app.upstream.pems.adapter import Pems
from app.upstream.pems.config import ORGANIZATION, VERSION, PemsConfig
from app.upstream.protocol import Upstream

Seconds = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
TimeOfDay = Annotated[str, msgspec.Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z")]


class TargetOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Whose dataset is kept in step with an upstream, and when; times in seconds.

    `pull_every`: from one pull to the next; `full_every`: from one that reads everything to the next; `overlap`: how
    much further back than the last mark a pull looks. `deletion_share`, `insert_share`, `change_share` and
    `quarantine_share`: of the rows, how many a pull may delete, insert, change and put aside.
    `concurrency`: pushes at the same time; `lease`: how long a push whose worker is gone is left alone. `longest_run`:
    of a pull. `full_at`: the time of day, in `full_at_zone`, after which a full pull is due, instead of `full_every`.
    `start_paused`: of a dataset that is connected for the first time.
    """

    organization: Annotated[str, msgspec.Meta(min_length=1)]
    dataset: Annotated[str, msgspec.Meta(min_length=1)]
    kind: str
    pull_every: Seconds = 900.0
    full_every: Seconds = 86400.0
    overlap: Annotated[float, msgspec.Meta(ge=0)] = 600.0
    deletion_share: Share = 0.1
    insert_share: Share = 0.1
    change_share: Share = 0.5
    quarantine_share: Share = 0.1
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=20)] = 4
    lease: Seconds = 120.0
    longest_run: Seconds = 14400.0
    full_at: TimeOfDay | None = None
    full_at_zone: str = "UTC"
    start_paused: bool = False

    def __post_init__(self) -> None:
        self.zone  # noqa: B018 - raises ValueError, which names the member

    @property
    def zone(self) -> tzinfo:
        """The zone of `full_at`; raises ValueError for one that is not known here."""
        if self.full_at_zone == "UTC":
            return UTC
        try:
            return ZoneInfo(self.full_at_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"fullAtZone: no zone is called {self.full_at_zone[:80]!r} here") from None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the file: its target, what its kind of upstream needs to know, and where it stands."""

    target: TargetOptions
    config: Any
    file: Path
    where: str


class Kind(msgspec.Struct, frozen=True):
    """A kind of upstream: how it is configured and opened. `open` takes contract, configuration, the file's folder.
    `needs`: the fields without which its rows cannot be told.
    """

    config: type[msgspec.Struct]
    open: Callable[[Contract, Any, Path], Upstream]
    needs: frozenset[str] = frozenset()


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    upstreams: tuple[dict[str, Any], ...]


KINDS: dict[str, Kind] = {
    "pems": Kind(
        PemsConfig,
        lambda contract, config, folder: Pems(contract, config, folder=folder),
        needs=frozenset({ORGANIZATION, VERSION}),
    ),
}
MEMBERS = frozenset(TargetOptions.__struct_encode_fields__)


def read_directory(path: Path) -> tuple[Entry, ...]:
    """The file's entries; raises ConfigurationError that names the entry and the member. Reads no secret."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise ConfigurationError(f"VANGUARD_UPSTREAMS: {path} cannot be read: {error.strerror}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path}: {error}.") from None
    entries = tuple(_entry(path, number, given) for number, given in enumerate(file.upstreams))
    places: dict[tuple[str, str], str] = {}
    for entry in entries:
        target = entry.target
        earlier = places.setdefault((target.organization, target.dataset), entry.where)
        if earlier != entry.where:
            raise ConfigurationError(f"{path}, {entry.where}: the same organization and dataset as {earlier}.")
    return entries


def open_upstream(entry: Entry, contract: Contract) -> Upstream:
    """The adapter, with its secret; connects to nobody yet. Raises ConfigurationError that names the entry."""
    try:
        return KINDS[entry.target.kind].open(contract, entry.config, entry.file.parent)
    except ConfigurationError as error:
        raise ConfigurationError(f"{entry.file}, {entry.where}: {error}") from None


def _entry(path: Path, number: int, given: dict[str, Any]) -> Entry:
    where = f"upstreams[{number}]"
    ours = {name: value for name, value in given.items() if name in MEMBERS}
    theirs = {name: value for name, value in given.items() if name not in MEMBERS}
    try:
        target = msgspec.convert(ours, TargetOptions)
        kind = KINDS.get(target.kind)
        if kind is None:
            raise msgspec.ValidationError(f"kind is one of {', '.join(KINDS)}")
        config = msgspec.convert(theirs, kind.config)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path}, {where}: {_member(str(error))}.") from None
    return Entry(target=target, config=config, file=path, where=where)


def _member(message: str) -> str:
    """msgspec's message with the member in front: `timeout: Expected ...`."""
    head, _, place = message.partition(" - at `$")
    return f"{place.strip('`.')}: {head}" if place.strip("`.") else head
