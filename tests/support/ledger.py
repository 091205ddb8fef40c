"""The simplest system of record: a dictionary. It proves that an upstream is a protocol, and does as tests tell it."""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from app.base.errors import Culprit
from app.contracts.validation import check_value
from app.upstream.protocol import (
    Broken,
    Capabilities,
    Created,
    Held,
    OutcomeUnknown,
    Page,
    Refused,
    Report,
    Row,
    Stale,
    Write,
)
from tests.support.world import FLEET

Hook = Callable[[], Awaitable[None]]


class Ledger:
    """Rows by key, each with its token and the time of its last change; a page is what follows a key.

    `failures`: what the next calls raise, by the name of the method; `poison`: what each call about a key raises.
    `before` and `after`: what happens just before a call is carried out, and between that and its answer.
    `lost`: so many writes are done, and their answers lost. `broken`: the field of a row that cannot be read;
    `strays`: what the first page brings beside the rows; `normalize`: what becomes of the fields that are written;
    `new_key`: what a new row is called; `carries`: whether it keeps a token; `near`: keys of rows that are like one.
    `hidden`: keys that are there and in no page; `doubt` and `total`: what pages say of all;
    `drifted`: what becomes of the columns of each row that is sent; without it nobody asks for their names.
    `filters_late_by`: how much later it takes a filter's time. `writes` are those that
    were done, `surprises` what tests found in between.
    """

    def __init__(
        self, key: str, rows: Mapping[str, Mapping[str, Any]] | None = None, *, page_size: int = 3, hour: int = 10
    ):
        self.key, self.page_size = key, page_size
        self.rows: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, int] = {}
        self.marks: dict[str, datetime] = {}
        self.broken: dict[str, str] = {}
        self.at = datetime(2026, 3, 1, 10, tzinfo=UTC)
        self.failures: dict[str, list[Exception]] = {}
        self.poison: dict[tuple[str, str | None], Exception] = {}
        self.before: dict[str, list[Hook]] = {}
        self.after: dict[str, list[Hook]] = {}
        self.surprises: list[AssertionError] = []
        self.strays: list[Row | Broken] = []
        self.normalize: Callable[[dict[str, Any]], dict[str, Any]] = dict
        self.new_key: str | None = None
        self.carries = False
        self.carried: dict[str, str | None] = {}
        self.near: set[str] = set()
        self.hidden: set[str] = set()
        self.filters_late_by = timedelta(0)
        self.doubt: str | None = None
        self.total: int | None = None
        self.drifted: Callable[[dict[str, Any]], dict[str, Any]] | None = None
        self.overlay: dict[str, str | None] = {}
        self.lost = 0
        self.calls: list[str] = []
        self.writes: list[tuple[str, str, dict[str, Any]]] = []
        self.capabilities = Capabilities(incremental=True, inserts=True, deletes=True, assigns_keys=True)
        for name, fields in (rows or {}).items():
            self.put(name, **fields)

    # --- what happens there without us

    def put(self, key: str, **fields: Any) -> None:
        """Somebody there changes a row, or adds one."""
        self.at += timedelta(seconds=1)
        self.rows[key] = {self.key: key} | self.rows.get(key, {}) | fields
        self.tokens[key] = self.tokens.get(key, 0) + 1
        self.marks[key] = self.at

    def remove(self, key: str) -> None:
        """Somebody there deletes a row."""
        self.at += timedelta(seconds=1)
        del self.rows[key]

    # --- the protocol

    @property
    def columns(self) -> Mapping[str, str]:
        names = {field.name: self.overlay.get(field.name, field.name) for field in FLEET.fields}
        return {field: column for field, column in names.items() if column is not None}

    def lay_over(self, mapping: Mapping[str, str | None]) -> None:
        self.overlay = dict(mapping)

    def cells(self, page: Page) -> dict[str, list[Any]]:
        lines: list[dict[str, Any]] = page.record or []
        return {
            name: [line.get(name) for line in lines] for name in dict.fromkeys(each for one in lines for each in one)
        }

    def read_as(self, field: str, values: Sequence[Any]) -> list[Any]:
        return [
            value if value is None or check_value(FLEET.by_name[field], value) is None else ValueError(str(value))
            for value in values
        ]

    async def page(self, *, since: datetime | None, cursor: str | None) -> Page:
        await self._called("page")
        after = None if since is None else since + self.filters_late_by
        keys = sorted(key for key in self.rows if after is None or self.marks[key] >= after)
        keys = [key for key in keys if cursor is None or key > cursor]
        shown, more = keys[: self.page_size], len(keys) > self.page_size
        strays = self.strays if cursor is None else []
        page = Page(
            rows=(
                *(self._row(key) for key in shown if key not in self.broken),
                *(stray for stray in strays if isinstance(stray, Row)),
            ),
            broken=(
                *(self._broken(key) for key in shown if key in self.broken),
                *(stray for stray in strays if isinstance(stray, Broken)),
            ),
            dropped=0,
            cursor=shown[-1] if more else None,
            mark=max((self.marks[key] for key in shown), default=None),
            marked=max(shown, key=self.marks.__getitem__, default=None),
            total=self.total,
            doubt=self.doubt,
        )
        if self.drifted is not None:
            page = self._as_sent(page, [self.drifted(dict(self.rows[key])) for key in shown])
        await self._done("page")
        return page

    def _as_sent(self, page: Page, lines: list[dict[str, Any]]) -> Page:
        """A page whose rows are read from columns that may be called otherwise, hold something else, or be missing."""
        sent = frozenset(name for line in lines for name in line)
        unread: Counter[str] = Counter()
        rows: list[Row] = []
        broken: list[Broken] = []
        for row, line in zip(page.rows, lines, strict=True):
            read = {field: self.read_as(field, [line.get(column)])[0] for field, column in self.columns.items()}
            wrong = [field for field, value in read.items() if isinstance(value, Exception)]
            missing = [field for field, column in self.columns.items() if column not in sent]
            unread.update(wrong)
            if wrong or missing:
                reasons = tuple(
                    Culprit(id=row.key, field=name, code="MISSING_FIELD", message="No.") for name in (*wrong, *missing)
                )
                broken.append(Broken(key=row.key, reasons=reasons, received=line))
            else:
                rows.append(Row(key=row.key, document=read | self._nulls))
        return msgspec.structs.replace(
            page, rows=tuple(rows), broken=tuple(broken), columns=sent, unread=unread, record=lines
        )  # fmt: skip

    async def read(self, key: str) -> Row | Broken | None:
        await self._called("read", key)
        if key not in self.rows:
            return None
        found = self._broken(key) if key in self.broken else self._row(key)
        await self._done("read")
        return found

    async def hold(self, key: str) -> Held | None:
        await self._called("hold", key)
        if key not in self.rows:
            return None
        held = Held(document=dict(self.rows[key]), token=str(self.tokens[key]))
        await self._done("hold")
        return held

    async def write(self, write: Write, held: Held | None) -> str:
        await self._called("write", write.key)
        key = write.key or self.new_key or f"L-{len(self.tokens) + 1:04d}"
        if write.op == "insert" and key in self.rows:
            raise Refused("The row is there already")
        if write.op != "insert":
            assert held is not None, "a row that is there is held before it is written"
            if key not in self.rows:
                raise Refused("Record not found")
            if held.token != str(self.tokens[key]):
                raise Stale("The row has been changed")
        if write.op == "delete":
            self.remove(key)
        else:
            self.put(key, **self.normalize(dict(write.fields)))
            if self.carries:
                self.carried[key] = write.token
        self.writes.append((write.op, key, dict(write.fields)))
        await self._done("write")
        if self.lost:
            self.lost -= 1
            raise OutcomeUnknown("No answer came")
        return key

    async def find_created(self, write: Write, sent_at: datetime, *, others: Collection[str] = ()) -> Created:
        await self._called("find_created")
        fields = write.fields
        certain = [
            key
            for key, row in self.rows.items()
            if (self.carries and self.carried.get(key) == write.token)
            or all(row.get(name) == value for name, value in fields.items())
        ]
        certain = [key for key in certain if key not in others]
        near = () if self.carries or certain else tuple(self._row(key) for key in self.rows if key in self.near)
        await self._done("find_created")
        return Created(certain=tuple(certain), near=near)

    async def exists(self, key: str) -> bool:
        await self._called("exists", key)
        found = key in self.rows or key in self.hidden
        await self._done("exists")
        return found

    async def check(self) -> Report:
        await self._called("check")
        report = Report(fits=True, problems=[], found={"rows": len(self.rows), "pageSize": self.page_size})
        await self._done("check")
        return report

    async def close(self) -> None:
        """There is nothing to close."""

    async def _called(self, method: str, key: str | None = None) -> None:
        self.calls.append(method)
        if poison := self.poison.get((method, key)):
            raise poison
        await self._look(self.before.get(method))
        if failures := self.failures.get(method):
            raise failures.pop(0)

    async def _done(self, method: str) -> None:
        await self._look(self.after.get(method))

    async def _look(self, hooks: list[Hook] | None) -> None:
        if hooks:
            try:
                await hooks.pop(0)()
            except AssertionError as surprise:
                self.surprises.append(surprise)

    @property
    def _nulls(self) -> dict[str, None]:
        return dict.fromkeys(field for field, column in self.overlay.items() if column is None)

    def _row(self, key: str) -> Row:
        return Row(key=key, document=self.rows[key] | self._nulls)

    def _broken(self, key: str) -> Broken:
        reason = Culprit(id=key, field=self.broken[key], code="INVALID_TYPE", message="It cannot be read.")
        return Broken(key=key, reasons=(reason,), received=dict(self.rows[key]))
