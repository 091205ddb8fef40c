"""A selection of a Vanguard dataset as a data set, the backend of a LiveTable."""

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Any, TypeVar, overload

import msgspec

from vanguard_client.errors import Conflicted, RecordNotFound, Refused, Unavailable
from vanguard_client.feed import FeedEvent, FeedMessage, FeedReset, Stream, UpToDate
from vanguard_client.records import Values, changed_fields, pick, replacement
from vanguard_client.results import FieldConflict
from vanguard_client.server import Vanguard, key_of
from vanguard_client.source import Change, Link, Loaded, Message, Op, Reset, Row, Write, Written, older
from vanguard_client.typed import TypedDataSet
from vanguard_client.wire import STATES, Filters, chunks, parameters_of, position_of, rows_of, segment, values_of

T = TypeVar("T")
PAGE = 1000  # rows
MANY = 10_000  # rows of one event; for more of them everything is read anew


class Changes(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of the feed. Go on from `next_since`; `up_to_date` when that was all so far."""

    data: list[FeedEvent]
    next_since: str
    up_to_date: bool


class RestDataSet(TypedDataSet[T]):
    """The rows of a dataset that pass `filters`, with `fields` only (None: all), as the token's bearer sees them.

    `filters` are query parameters of `GET D/rows`: `{"category": ["Cranes", "Lifts"], "monthlyRate[gte]": 100}`. A
    write drafts and commits. Ids that it makes up are temporary where a system of record gives its own.

    Its methods raise Refused, and Unavailable when all attempts are over.
    """

    @overload
    def __init__(
        self: "RestDataSet[dict[str, Any]]",
        server: Vanguard,
        organization: str,
        dataset: str,
        *,
        filters: Filters | None = None,
        fields: Iterable[str] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        server: Vanguard,
        organization: str,
        dataset: str,
        *,
        record: type[T],
        filters: Filters | None = None,
        fields: Iterable[str] | None = None,
    ) -> None: ...
    def __init__(
        self,
        server: Vanguard,
        organization: str,
        dataset: str,
        *,
        record: Any = dict,
        filters: Filters | None = None,
        fields: Iterable[str] | None = None,
    ) -> None:
        super().__init__(record)
        self._server = server
        self._path = f"/api/v1/orgs/{segment(organization)}/datasets/{segment(dataset)}"
        self._fields = None if fields is None else tuple(fields)
        self._filters = parameters_of(filters or {})
        self._described: dict[str, Any] | None = None

    @property
    def fields(self) -> tuple[str, ...] | None:
        """The fields that rows are read with; None: all."""
        return self._fields

    async def describe(self) -> dict[str, Any]:
        """`GET D`: the key, the columns, what the caller may do. Asked for once."""
        if self._described is None:
            self._described = await self._server.call("GET", self._path)
        return self._described

    # --- a data set

    async def list_values(self) -> dict[str, Values]:
        """All rows of the selection, by id."""
        rows = [row async for page in self._pages(self._selection) for row in page["data"]]
        return {row["id"]: values_of(row) for row in rows}

    async def get_some_value(self) -> tuple[str, Values] | None:
        """The first one."""
        page = await self._page([*self._selection, ("pageSize", "1")])
        return next(((row["id"], values_of(row)) for row in page["data"]), None)

    async def get_value(self, id: str) -> Values | None:
        """One row, if it is in the selection."""
        row = (await self.fetch([id])).rows.get(id)
        return None if row is None else row.values

    async def insert_value(self, id: str, values: Values) -> Values:
        """Insert it, unless it is there, in the selection or not."""
        found = await self._read(id)
        if found is None:
            try:
                await self.write(Write(op="insert", id=id, values=values, key=new_key()))
            except Refused as error:
                if error.code != "ROW_EXISTS":
                    raise
            found = await self._read(id)
        return values if found is None else found

    async def replace_value(self, id: str, values: Values) -> Values:
        """Write all of it. Of what is there already, only fields that can be edited become null."""
        await self.write(Write(op="replace", id=id, values=values, key=new_key()))
        return await self._read(id) or values

    async def patch_value(self, id: str, partial: Values) -> Values:
        """Lay fields over it, whatever they were; raises RecordNotFound."""
        try:
            if partial:
                await self.write(Write(op="update", id=id, values=partial, key=new_key()))
        except Conflicted as error:
            if error.code == "ROW_NOT_FOUND":
                raise RecordNotFound(id) from error
            raise
        found = await self._read(id)
        if found is None:
            raise RecordNotFound(id)
        return found

    async def delete(self, id: str) -> None:
        """Delete it, if it is there."""
        await self.write(Write(op="delete", id=id, key=new_key()))

    async def add_value(self, values: Values) -> str:
        """Insert under a new id, which is a temporary one where a system of record gives its own."""
        written = await self.write(Write(op="add", id=f"new-{new_key()}", values=values, key=new_key()))
        return written.id

    # --- for a LiveTable

    async def load(self) -> Loaded:
        """Every row of the selection. Changes are told from before the first page on, so that none is missed."""
        position, drafted = await self._drafted()
        rows: dict[str, Row] = {}
        async for page in self._pages(self._selection):
            if older(position_of(page), position):
                raise Unavailable("A server answers that lags behind.")
            rows |= rows_of(page)
        return Loaded(rows=rows, position=position, drafted=drafted)

    async def fetch(self, ids: Iterable[str]) -> Loaded:
        """These rows, as far as they are in the selection."""
        return await self._fetch(ids, self._selection)

    async def drafted(self) -> dict[str, int]:
        """The versions of all rows that the caller has drafted or committed, by id, in the selection or not."""
        return (await self._drafted())[1]

    async def failure(self, id: str) -> Refused:
        """What the system of record says about the row."""
        row = await self._server.call("GET", f"{self._path}/rows/{segment(id)}")
        said = [each for each in row["history"] if each["error"]]
        message = said[0]["error"] if said else "The system of record has not taken it."
        return Refused(message, code="SYNC_ERROR")

    async def write(self, write: Write) -> Written:
        """Draft and commit. What is refused leaves no draft behind."""
        if write.op == "discard":
            answer = await self._post("discard", {"ids": [write.id]}, write)
            return Written(id=write.id, position=position_of(answer))
        return await (self._replace(write) if write.op == "replace" else self._write(write))

    async def follow(self, since: str) -> AsyncIterator[Message]:
        """All that happens to the dataset after a position."""
        async for told in self.events(since):
            if isinstance(told, FeedEvent):
                yield await self._change(told)
            elif isinstance(told, FeedReset):
                yield Reset(reason=told.reason, position=told.position)
            elif isinstance(told, UpToDate):
                yield Link(position=told.position)
            else:
                yield Link(error=told.error)

    # --- the feed

    def events(self, since: str = "now") -> AsyncGenerator[FeedMessage, None]:
        """The dataset's feed as it is sent, after a position, `earliest` or `now`, over as many connections as it
        takes. Raises Refused when the caller may not listen any more.
        """
        return Stream(self._server, f"{self._path}/events", since).messages()

    async def changes(self, since: str, limit: int = 100) -> Changes:
        """A page of the feed after a position, `earliest` or `now`; raises FeedExpired."""
        answer = await self._server.call("GET", f"{self._path}/changes", [("since", since), ("limit", str(limit))])
        return msgspec.convert(answer, Changes)

    async def event_ids(self, event_id: str) -> list[str]:
        """The ids of all rows of an event."""
        ids: list[str] = []
        path, params = f"{self._path}/changes/{segment(event_id)}/ids", [("limit", str(MANY))]
        after: list[tuple[str, str]] = []
        while True:
            page = await self._server.call("GET", path, [*params, *after])
            ids += page["data"]
            if page["nextCursor"] is None:
                return ids
            after = [("after", page["nextCursor"])]

    async def _change(self, event: FeedEvent) -> Change:
        """Which rows to look at after an event."""
        ids: list[str] | None = event.ids or []
        if event.type == "dataset" and event.details.get("event") == "loaded":
            ids = None
        elif event.ids is None and event.count:
            ids = await self._server.backoff.again(self._ids_of, event)
        return Change(position=event.id, ids=ids, keys=event.keys, drafts=event.type == "drafts")

    async def _ids_of(self, event: FeedEvent) -> list[str] | None:
        """Those of a large event; None where it is easier to read everything, or they cannot be had."""
        if (event.count or 0) > MANY:
            return None
        try:
            return await self.event_ids(event.id)
        except Refused as error:
            if error.status == 404:
                return None
            raise

    # --- reading

    @property
    def _selection(self) -> list[tuple[str, str]]:
        return self._filters if self._fields is None else [*self._filters, ("fields", ",".join(self._fields))]

    async def _page(self, params: Sequence[tuple[str, str]]) -> dict[str, Any]:
        page: dict[str, Any] = await self._server.call("GET", f"{self._path}/rows", [*params, ("count", "none")])
        return page

    async def _pages(self, params: Sequence[tuple[str, str]]) -> AsyncIterator[dict[str, Any]]:
        after: list[tuple[str, str]] = []
        while True:
            page = await self._page([*params, ("pageSize", str(PAGE)), *after])
            yield page
            if page["pagination"]["nextCursor"] is None:
                return
            after = [("after", page["pagination"]["nextCursor"])]

    async def _fetch(self, ids: Iterable[str], selection: Sequence[tuple[str, str]]) -> Loaded:
        # A filter by id would be one with the ids that are asked for.
        wanted = {value for name, value in selection if name == "id"}
        wanted |= {each for name, value in selection if name == "id[in]" for each in value.split(",")}
        rest = [(name, value) for name, value in selection if name not in ("id", "id[in]")]
        position, rows = "", dict[str, Row]()
        for some in chunks(id for id in ids if not wanted or id in wanted):
            page = await self._page([*rest, *(("id", id) for id in some), ("pageSize", str(PAGE))])
            position = position or position_of(page)
            rows |= rows_of(page)
        return Loaded(rows=rows, position=position)

    async def _read(self, id: str) -> Values | None:
        """One row, in the selection or not."""
        row = (await self._fetch([id], [each for each in self._selection if each[0] == "fields"])).rows.get(id)
        return None if row is None else row.values

    async def _drafted(self) -> tuple[str, dict[str, int]]:
        states = ",".join(state for state in STATES if state != "pristine")
        params = [("syncState", states), ("include", "deleted"), ("fields", (await self.describe())["key"])]
        position, versions = "", dict[str, int]()
        async for page in self._pages(params):
            position = position or position_of(page)
            versions |= {row["id"]: row["version"] for row in page["data"]}
        return position, versions

    # --- writing

    async def _write(self, write: Write) -> Written:
        op = "insert" if write.op == "add" else write.op
        modification: dict[str, Any] = {"id": write.id, "op": op}
        if op == "insert":
            modification["delta"] = await self._insertable(write.values)
        elif op == "update":
            modification |= {"delta": write.values} | ({"base": write.base} if write.base is not None else {})
        try:
            saved = await self._post("drafts", {"modifications": [modification], "atomic": True}, write)
        except Refused as error:
            if op == "delete" and _culprit(error) == "ROW_NOT_FOUND":
                return Written(id=write.id)
            raise self._told(error, write) from None
        position = position_of(saved)
        if saved["saved"][0]["version"] != 0:
            position = await self._commit(write) or position
        return Written(id=write.id, position=position)

    async def _commit(self, write: Write) -> str:
        """The position behind the commit; empty where nothing was left to commit."""
        try:
            return position_of(await self._post("commit", {"ids": [write.id]}, write))
        except Refused as error:
            if error.code == "NO_DRAFTS":
                return ""
            only = {"fields": list(write.values)} if write.op == "update" else {}
            await self._post("discard", {"ids": [write.id], **only}, write)
            raise

    async def _replace(self, write: Write) -> Written:
        try:
            return await self._write(_as(write, "insert", write.values))
        except Refused as error:
            if error.code != "ROW_EXISTS":
                raise
        found = await self._read(write.id)
        old = pick(found or {}, [field for field in found or {} if field in await self._editable()])
        new = replacement(old, write.values)
        fields = changed_fields(old, new)
        return await self._write(_as(write, "update", pick(new, fields))) if fields else Written(id=write.id)

    async def _editable(self) -> set[str]:
        return {column["name"] for column in (await self.describe())["columns"] if column["editable"]}

    async def _insertable(self, values: Values) -> Values:
        """What a new row can be drafted with: no null, and nothing that a system of record alone gives to a row."""
        given = {column["name"] for column in (await self.describe())["columns"]} - await self._editable()
        return {field: value for field, value in values.items() if value is not None and field not in given}

    async def _post(self, what: str, body: dict[str, Any], write: Write) -> dict[str, Any]:
        key = key_of(write.key, write.op, what, write.id)
        answer: dict[str, Any] = await self._server.call("POST", f"{self._path}/{what}", body=body, key=key)
        return answer

    def _told(self, error: Refused, write: Write) -> Refused:
        """The refusal of a draft, in this library's words."""
        culprit = _culprit(error)
        if write.op == "update" and culprit in ("ROW_NOT_FOUND", "ROW_DELETED"):
            gone = FieldConflict(id=write.id, field=None, base=write.base, theirs=None, mine=write.values)
            return Conflicted([gone], code="ROW_NOT_FOUND", status=error.status, request_id=error.request_id)
        if len(error.errors) == 1:
            said = str(error.errors[0].get("message") or error)
            code = culprit or error.code
            return Refused(said, code=code, status=error.status, errors=error.errors, request_id=error.request_id)
        return error


def new_key() -> str:
    """Something that was never there."""
    return uuid.uuid4().hex


def _as(write: Write, op: Op, values: Values) -> Write:
    return Write(op=op, id=write.id, values=values, base=None, key=write.key)


def _culprit(error: Refused) -> str | None:
    """The code of what was wrong, if it was one thing."""
    return error.errors[0].get("code") if len(error.errors) == 1 else None
