"""PEMS (HxGN EAM): the grid for reading, the user-defined screen for writing."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from app.base.clock import Clock, now
from app.contracts import Contract
from app.contracts.shape import FieldType
from app.upstream.likeness import is_near
from app.upstream.pems.check import Look, look
from app.upstream.pems.config import ORGANIZATION, VERSION, PemsConfig, aliases_of, laid_over
from app.upstream.pems.forms import Forms
from app.upstream.pems.grid import Condition, GridPage, GridReader, HeadersNeeded, NothingFound, grid_request
from app.upstream.pems.http import PemsClient, is_not_found, read_refused, words_of, write_refused
from app.upstream.pems.listing import Place, turn
from app.upstream.pems.screen import (
    Pairs,
    Record,
    ScreenAnswer,
    look_at,
    read_answer,
    read_document,
    screen_request,
)
from app.upstream.protocol import (
    Broken,
    Capabilities,
    Created,
    Failed,
    Held,
    OutcomeUnknown,
    Page,
    Question,
    Refused,
    Report,
    Row,
    Unavailable,
    Write,
)

ACTIONS = {"insert": "ADD", "update": "UPDATE", "delete": "DELETE"}
MAX_FILTERS = 4  # texts that a created row is looked for by
FEW = 50  # rows of an answer that should hold one
# How much further back than asked for a time filter reaches: the same local time comes twice when clocks are set back.
CLOCKS_BACK = timedelta(hours=1)
LATELY = timedelta(days=1)  # before a new row was sent: PEMS's clock and zone may be others than ours
# What the screen shows of each type that has several forms, as Forms calls it.
FORMS: dict[FieldType, str] = {"date": "moment", "number": "number", "integer": "number", "boolean": "flag"}


class Pems:
    """The adapter of one dataset. `folder`: where relative files of the configuration are."""

    def __init__(self, contract: Contract, config: PemsConfig, *, folder: Path = Path(), clock: Clock = now):
        """Read the secret and open nothing yet; raises ConfigurationError."""
        self._contract = contract
        self._config = config
        self._overlay: dict[str, str | None] | None = None
        self.lay_over({})
        self._forms = Forms(config.writes, config.locale)
        self._looked: set[str] = set()  # for these forms, before a value was written in one that nobody had seen
        self._listings = _listings(config.organizations)
        self._client = PemsClient(config, folder=folder, clock=clock)

    def lay_over(self, mapping: Mapping[str, str | None]) -> None:
        """See Upstream. What is written to the screen stays called as it is; a field that is read no more is written
        no more.
        """
        if self._overlay == dict(mapping):
            return
        aliases = aliases_of(self._contract, laid_over(self._config, mapping))
        self._read = {name: alias.read for name, alias in aliases.items()}
        self._write = {name: alias.write for name, alias in aliases.items() if alias.write is not None}
        nulls = [field for field, column in mapping.items() if column is None]
        config = self._config
        self._reader = GridReader(self._contract, self._read, config.organizations, config.locale, nulls=nulls)
        self._overlay = dict(mapping)

    @property
    def columns(self) -> Mapping[str, str]:
        """See Upstream. Aliases in lower case, as grids are read."""
        return {name: alias.lower() for name, alias in self._read.items()}

    def cells(self, page: Page) -> dict[str, list[Any]]:
        """See Upstream."""
        lines = [] if page.record is None else self._reader.lines(*page.record)
        found: dict[str, list[Any]] = {name: [] for line in lines for name in line}
        for name, values in found.items():
            values += [None if (value := line.get(name)) == "" else value for line in lines]
        return found

    def read_as(self, field: str, values: Sequence[Any]) -> list[Any]:
        """See Upstream."""
        return self._reader.read_as(field, values)

    @property
    def capabilities(self) -> Capabilities:
        """All of them."""
        return Capabilities(incremental=True, inserts=True, deletes=True, assigns_keys=True)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    # -- reading ---------------------------------------------------------------------------------------------------

    async def page(self, *, since: datetime | None, cursor: str | None) -> Page:
        """See Upstream. A cursor of other organization codes begins anew. `total` counts what will be dropped, too."""
        place = self._place(cursor)
        filters = [Condition(self._read[ORGANIZATION], "BEGINS", place.code)]
        if since is not None:
            filters.append(self._modified_since(since))
        turned = await turn(self._asking(place.code, filters), place, self._config.page_size)
        page, following, total = turned.page, turned.following, turned.announced
        if total is None and following is None and place.position == 0:
            total = page.total
        if following is None:
            later = self._listings[self._listings.index(place.code) + 1 :]
            following = Place(code=later[0]) if later else None
        return Page(
            rows=page.rows,
            broken=page.broken,
            dropped=page.dropped,
            cursor=None if following is None else msgspec.json.encode(following).decode(),
            mark=page.mark,
            marked=page.marked,
            total=total if len(self._listings) == 1 else None,
            doubt=turned.doubt,
            columns=page.columns,
            unread=page.unread,
            record=page.body,
        )

    async def read(self, key: str) -> Row | Broken | None:
        """See Upstream."""
        for code in self._config.organizations:
            try:
                page = await self._ask(code, self._named(code, key), 1, FEW)
            except NothingFound:
                continue
            answered: tuple[Row | Broken, ...] = page.rows + page.broken
            for row in answered:
                if row.key in (key, None):
                    return row
        return None

    async def exists(self, key: str) -> bool:
        """See Upstream. Asks the screen, which has no Dataspy; the grid, where the account may not see the screen."""
        try:
            shown = [await self._show(code, key) for code in self._config.organizations]
        except Unavailable as error:
            if not error.refused:
                raise
            shown = []
        return any(record is not None for record in shown) if shown else await self.read(key) is not None

    async def find_created(self, write: Write, sent_at: datetime, *, others: Collection[str] = ()) -> Created:
        """See Upstream."""
        code = self._code_of(write.fields)
        of_code = Condition(self._read[ORGANIZATION], "=", code)
        if self._config.token is not None and write.token is not None:
            rows, broken = await self._list(code, [of_code, Condition(self._config.token.read, "=", write.token)])
            # Whether the rest of it can be read or not: it is there.
            return Created(certain=tuple(key for key in (*rows, *broken) if key not in others))
        writable = self._write.keys() - set(self._identity)
        # A row of which nothing was said has nothing in it.
        wanted = {name: write.fields[name] for name in write.fields.keys() & writable} or dict.fromkeys(writable)
        rows, broken = await self._list(code, [of_code, *self._telling(wanted)])
        same = {key for key, row in rows.items() if _agrees(row.document, wanted)}
        if certain := tuple(key for key in rows if key in same and key not in others):
            return Created(certain=certain)
        kinds = {name: self._contract.by_name[name].type for name in wanted}
        recent, unread = await self._list(code, [of_code, self._modified_since(sent_at - LATELY)])
        near = [row for key, row in recent.items() if key not in same and is_near(kinds, wanted, row.document)]
        # Lines with the same texts that cannot be read may be it, too.
        near += [Row(key=key, document={self._contract.text_key: key}) for key in broken if key in unread]
        return Created(near=tuple(near))

    async def check(self) -> Report:
        """See Upstream."""
        return await look(
            Look(
                contract=self._contract,
                config=self._config,
                read=self._read,
                write=self._write,
                reader=self._reader,
                forms=self._forms,
                post=lambda code, filters: self._post_grid(code, filters, 1, FEW, headed=True),
                show=self._show,
                modified_since=self._modified_since,
            )
        )

    async def _list(self, code: str, filters: list[Condition]) -> tuple[dict[str, Row], list[str]]:
        """All rows that meet the conditions, by key, and the keys of those that cannot be read; raises Failed where
        not even that can be.
        """
        found: dict[str, Row] = {}
        broken: dict[str, None] = {}
        place: Place | None = Place(code=code)
        while place is not None:
            turned = await turn(self._asking(code, filters), place, self._config.page_size)
            found |= {row.key: row for row in turned.page.rows}
            for row in turned.page.broken:
                if row.key is None:
                    raise Failed("A line that may be the new one has no id that can be read.")
                broken[row.key] = None
            place = turned.following
        return found, list(broken)

    def _asking(self, code: str, filters: list[Condition]) -> Callable[[int | str, int], Awaitable[GridPage]]:
        return lambda position, size: self._ask(code, filters, position, size)

    async def _ask(self, code: str, filters: list[Condition], position: int | str, size: int) -> GridPage:
        if position != 1 and self._reader.numbers is not None:
            try:
                return self._reader.read(await self._post_grid(code, filters, position, size, headed=False))
            except HeadersNeeded:
                pass  # the columns are others than those of the last headers
        return self._reader.read(await self._post_grid(code, filters, position, size, headed=True))

    async def _post_grid(
        self, code: str, filters: list[Condition], position: int | str, size: int, *, headed: bool
    ) -> bytes:
        key = self._read[self._contract.text_key]
        body = grid_request(self._config.grid, key, filters, position=position, size=size, headed=headed)
        return await self._client.post(self._config.grid.data_path, body, organization=code)

    def _place(self, cursor: str | None) -> Place:
        if cursor is not None:
            try:
                place = msgspec.json.decode(cursor, type=Place)
            except msgspec.DecodeError:
                raise Failed("The cursor cannot be read.") from None
            if place.code in self._listings:
                return place
        return Place(code=self._listings[0])

    def _named(self, code: str, key: str) -> list[Condition]:
        return [
            Condition(self._read[ORGANIZATION], "=", code),
            Condition(self._read[self._contract.text_key], "=", key),
        ]

    def _modified_since(self, moment: datetime) -> Condition:
        locale = self._config.locale
        local = (moment if locale.zone == "UTC" else moment - CLOCKS_BACK).astimezone(locale.tz)
        return Condition(self._read[VERSION], ">=", local.strftime(locale.time_format))

    def _telling(self, fields: Mapping[str, Any]) -> list[Condition]:
        """Conditions by some of the texts, the longest, which tell most."""
        texts = [(name, value) for name, value in fields.items() if isinstance(value, str) and value]
        texts = [(name, value) for name, value in texts if self._contract.by_name[name].type in ("text", "enum")]
        texts.sort(key=lambda item: -len(item[1]))
        return [Condition(self._read[name], "=", value) for name, value in texts[:MAX_FILTERS]]

    # -- writing ---------------------------------------------------------------------------------------------------

    async def hold(self, key: str) -> Held | None:
        """See Upstream."""
        for code in self._config.organizations:
            record = await self._show(code, key)
            if record is None:
                continue
            document = read_document(self._contract, self._write, self._forms, record.values)
            document |= {self._contract.text_key: key, ORGANIZATION: code}
            token = None if record.recordid is None else str(record.recordid)
            return Held(document=document, token=token, record=record.values)
        return None

    async def write(self, write: Write, held: Held | None) -> str:
        """See Upstream."""
        code = self._code_of(write.fields if held is None else held.document)
        record: Pairs = {} if held is None else held.record or {}
        await self._look_at_forms(code, write, record)
        pairs = self._laid_over(code, write, record)
        answer = await self._screen(ACTIONS[write.op], code, pairs, None if held is None else held.token)
        if answer is None:
            raise OutcomeUnknown("The answer of PEMS to the write cannot be read.")
        if words := words_of(answer.ErrorAlert):
            raise write_refused(words)
        if question := words_of(answer.ConfirmationAlert):
            raise Question(question)
        if answer.Result is None:
            raise OutcomeUnknown("PEMS does not say whether it wrote.")
        return self._assigned(answer) if write.key is None else write.key

    async def _show(self, code: str, key: str) -> Record | None:
        """The record on the screen; None where there is none."""
        answer = await self._screen("GET", code, self._identified(code, key), None)
        words = None if answer is None else words_of(answer.ErrorAlert)
        if is_not_found(words):
            return None
        if words is not None:
            raise read_refused(words)
        if answer is not None and (question := words_of(answer.ConfirmationAlert)):
            raise Question(question)
        record = None if answer is None else answer.record
        if record is None:
            raise Failed("The answer of PEMS cannot be read: it holds no record.")
        return record

    async def _look_at_forms(self, code: str, write: Write, record: Pairs) -> None:
        """See in which forms the screen shows values such as these, where it has shown none yet: a new line, or one
        that is empty there, has none to follow.
        """
        given = [name for name, value in write.fields.items() if value is not None and name in self._write]
        blank = [name for name in given if not any((record.get(self._write[name]) or {}).values())]
        missing = {self._form_of(name) for name in blank} - {None, *self._forms.seen, *self._looked}
        if not missing:
            return
        try:
            page = await self._ask(code, [Condition(self._read[ORGANIZATION], "=", code)], 1, FEW)
        except NothingFound:
            page = None
        for form in sorted(filter(None, missing)):
            self._looked.add(form)
            key = None if page is None else self._telling_key(page, form)
            shown = None if key is None or form in self._forms.seen else await self._show(code, key)
            if shown is not None:
                look_at(self._contract, self._write, self._forms, shown.values)

    def _telling_key(self, page: GridPage, form: str) -> str | None:
        """Of the line that has most values in this form. False tells less: what stands for it does so in two forms."""
        names = [name for name in self._write if self._form_of(name) == form]
        told = {row.key: sum(_tells(row.document.get(name)) for name in names) for row in page.rows}
        return max(told, key=lambda key: told[key], default=None)

    def _form_of(self, name: str) -> str | None:
        """What the screen may show a field's values as, in more forms than one."""
        field = self._contract.by_name[name]
        return FORMS.get(field.type) if name in self._write and field.editable else None

    async def _screen(self, action: str, code: str, pairs: Pairs, token: str | None) -> ScreenAnswer | None:
        grid = self._config.grid
        body = screen_request(grid.screen, action, pairs, token)
        return read_answer(await self._client.post(grid.screen_path, body, organization=code, writing=action != "GET"))

    @property
    def _identity(self) -> tuple[str, str]:
        return self._contract.text_key, ORGANIZATION

    def _identified(self, code: str, key: str | None) -> Pairs:
        names = {self._contract.text_key: key, ORGANIZATION: code}
        return {self._write[name]: {"TEXTDATA": value} for name, value in names.items() if value is not None}

    def _laid_over(self, code: str, write: Write, record: Pairs) -> Pairs:
        """What is sent: of an update the record as it was read, what nobody has mapped included, and the changes over
        it: an UPDATE may blank what is not sent.
        """
        identity = self._identified(code, write.key)
        if write.op == "delete":
            return identity
        whole = write.op == "update" and self._config.writes.update == "record"
        token = self._config.token if write.op == "insert" and write.token is not None else None
        spare = {token.write: {"TEXTDATA": write.token}} if token is not None else {}
        return (record if whole else {}) | identity | self._written(write, record) | spare

    def _written(self, write: Write, record: Pairs) -> Pairs:
        """The fields as the screen takes them; raises Refused for one that it does not have."""
        pairs: Pairs = {}
        for name, value in write.fields.items():
            field = self._contract.by_name[name]
            # What is inserted again may hold what PEMS alone gives to a line.
            unsaid = write.op == "insert" and (value is None or not field.editable)
            if name in self._identity or field.derived_from or (unsaid and name not in self._write):
                continue
            if name not in self._write:
                raise Refused(f"{name} cannot be written to PEMS.")
            on_screen = self._write[name]
            pairs[on_screen] = self._forms.write(field.type, value, record.get(on_screen))
        return pairs

    def _assigned(self, answer: ScreenAnswer) -> str:
        record = answer.record
        shown = None if record is None else record.values.get(self._write[self._contract.text_key])
        key = (shown or {}).get("TEXTDATA")
        if not isinstance(key, str) or not key:
            raise OutcomeUnknown("PEMS wrote a new row and did not say its id.")
        return key

    def _code_of(self, fields: Mapping[str, Any]) -> str:
        code = fields.get(ORGANIZATION) or self._config.organizations[0]
        if code not in self._config.organizations:
            raise Refused(f"The organization {code} is none of those that are connected.")
        return str(code)


def _listings(codes: tuple[str, ...]) -> tuple[str, ...]:
    """What to list, so that no line comes twice: a code that begins with another comes with it."""
    return tuple(
        dict.fromkeys(code for code in codes if not any(code != other and code.startswith(other) for other in codes))
    )


def _tells(value: Any) -> int:
    return 0 if value is None else 1 if value is False else 2


def _agrees(document: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether the row has just these values. PEMS makes an empty text null, and may make a flag of nothing N."""
    return all(
        document.get(name) == (None if value == "" else value) or (value is None and document.get(name) is False)
        for name, value in wanted.items()
    )
