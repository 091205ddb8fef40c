"""What a LiveTable asks of a backend: of one that tells positions and changes, or of any data set."""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import msgspec

from vanguard_client.errors import Conflicted, Refused, Unavailable
from vanguard_client.protocols import DataSet
from vanguard_client.records import Codec, Values, changed_fields, pick
from vanguard_client.results import FieldConflict

T = TypeVar("T")
Op = Literal["insert", "add", "replace", "update", "delete", "discard"]


def older(one: str, other: str) -> bool:
    """Whether a position comes before another one of the same feed. Where one is not known nothing is older."""
    return bool(one and other) and one.partition(".")[0] < other.partition(".")[0]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row as the backend has it.

    `position`: of the snapshot that it was read from. `version`: of what the caller has drafted or committed, 0 for
    nothing. `state`: `pending` while that is on its way to a system of record, `failed` when that has not taken it.
    """

    values: Values
    position: str = ""
    version: int = 0
    state: Literal["settled", "draft", "pending", "failed"] = "settled"
    conflicts: list[FieldConflict] = []


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that were asked for and are there. `position`: of the first snapshot read.

    `drafted`: versions of all that the caller has drafted, in the selection or not; of a full load only.
    """

    rows: dict[str, Row]
    position: str = ""
    drafted: dict[str, int] = {}


class Write(msgspec.Struct, kw_only=True, eq=False):
    """What is to be written: `values` of an `update` are the fields that change. `base` is what they were when seen;
    one that is otherwise by now is a conflict. None: nothing is compared. `key`: the same at each try.
    """

    op: Op
    id: str
    values: Values = {}
    base: Values | None = None
    key: str


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """It is written, under this id; the feed has passed it from `position` on."""

    id: str
    position: str = ""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened. `ids`: rows to look at; None: all of them. `keys`: temporary ids and the real ones.

    `drafts`: what the caller has drafted is otherwise.
    """

    position: str = ""
    ids: list[str] | None = []
    keys: dict[str, str] = {}
    drafts: bool = False


class Reset(msgspec.Struct, frozen=True, kw_only=True):
    """Changes may have been missed, for this reason: read everything again. What follows comes after `position`."""

    reason: str
    position: str = ""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """The feed's connection: `error` is None once all that was missed has been told, which is up to `position`."""

    error: Unavailable | None = None
    position: str = ""


Message = Change | Reset | Link


@runtime_checkable
class Tracked(Protocol):
    """A backend that knows what was read when, and tells of changes."""

    @property
    def fields(self) -> tuple[str, ...] | None:
        """The fields that rows are read with; None: all."""
        ...

    async def load(self) -> Loaded:
        """Every row."""
        ...

    async def fetch(self, ids: Iterable[str]) -> Loaded:
        """These rows, as far as they are there."""
        ...

    async def drafted(self) -> dict[str, int]:
        """`Loaded.drafted` anew."""
        ...

    async def write(self, write: Write) -> Written:
        """Raises Refused (Conflicted) when the answer is no, and Unavailable when it is worth another try."""
        ...

    async def failure(self, id: str) -> Refused:
        """Why a system of record has not taken the row."""
        ...

    def follow(self, since: str) -> AsyncIterator[Message]:
        """All that happens after a position, for as long as the caller may know; raises Refused then."""
        ...


class PlainSource:
    """Any data set as a backend. Changes from elsewhere show by `on_backend_change` only."""

    fields = None

    def __init__(self, backend: DataSet[Any]) -> None:
        self._backend, self._codec = backend, Codec(backend.record)

    async def load(self) -> Loaded:
        """Every row."""
        with _reached():
            values = await self._backend.list_values()
        return Loaded(rows={id: Row(values=row) for id, row in values.items()})

    async def fetch(self, ids: Iterable[str]) -> Loaded:
        """One after the other."""
        with _reached():
            values = {id: await self._backend.get_value(id) for id in ids}
        return Loaded(rows={id: Row(values=row) for id, row in values.items() if row is not None})

    async def drafted(self) -> dict[str, int]:
        """A plain data set has no drafts."""
        return {}

    async def failure(self, id: str) -> Refused:
        """Never asked: what is written is settled."""
        return Refused(f"{id!r} was not taken.")

    async def follow(self, since: str) -> AsyncIterator[Message]:
        """It tells nothing."""
        nothing: tuple[Message, ...] = ()
        for each in nothing:
            yield each

    async def write(self, write: Write) -> Written:
        """Compare what was seen with what is there, then write."""
        with _reached():
            return Written(id=await self._write(write))

    async def _write(self, write: Write) -> str:
        backend, id = self._backend, write.id
        if write.op == "add":
            return await backend.add(self._codec.read(write.values, id))
        if write.op == "delete":
            await backend.delete(id)
        elif write.op == "replace":
            await backend.replace_value(id, write.values)
        elif write.op == "insert":
            if await backend.get_value(id) is not None:
                raise Refused(f"There is a record {id!r} already.", code="ROW_EXISTS")
            await backend.insert_value(id, write.values)
        elif write.op == "update":
            await self._compare(write)
            await backend.patch_value(id, write.values)
        return id

    async def _compare(self, write: Write) -> None:
        if write.base is None:
            return
        now = await self._backend.get_value(write.id)
        if now is None:
            gone = FieldConflict(id=write.id, field=None, base=write.base, theirs=None, mine=write.values)
            raise Conflicted([gone])
        theirs = pick(now, write.base)
        moved = [field for field in changed_fields(write.base, theirs) if theirs[field] != write.values.get(field)]
        if moved:
            raise Conflicted([_conflict(write, field, theirs) for field in moved])


def _conflict(write: Write, field: str, theirs: Mapping[str, Any]) -> FieldConflict:
    base = (write.base or {}).get(field)
    return FieldConflict(id=write.id, field=field, base=base, theirs=theirs[field], mine=write.values.get(field))


class _reached:
    """Turns what a data set raises when it cannot be reached into Unavailable."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ConnectionError | TimeoutError):
            raise Unavailable(f"The backend cannot be reached: {error}") from error


def source_of(backend: Any) -> Tracked:
    """The backend itself where it tells changes, else with what a LiveTable needs around it."""
    return backend if isinstance(backend, Tracked) else PlainSource(backend)
