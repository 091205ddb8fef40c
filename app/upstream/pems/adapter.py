"""PEMS (HxGN EAM): the grid for reading, the user-defined screen for writing.

Between two pages of a listing lines may appear and vanish, so that positions shift. Each page therefore begins with the
last line of the page before; where that is not among the lines that come, it goes back until one comes that was seen.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from app.base.clock import Clock, now
from app.contracts import Contract
from app.upstream.pems.config import ORGANIZATION, VERSION, PemsConfig, aliases_of
from app.upstream.pems.grid import Condition, GridPage, GridReader, HeadersNeeded, grid_request
from app.upstream.pems.http import NOT_FOUND, PemsClient, read_refused, words_of, write_refused
from app.upstream.pems.screen import Pairs, ScreenAnswer, read_answer, read_document, screen_request
from app.upstream.pems.values import format_instant, write_value
from app.upstream.protocol import (
    Broken,
    Capabilities,
    Failed,
    Held,
    OutcomeUnknown,
    Page,
    Refused,
    Row,
    Write,
)

ACTIONS = {"insert": "ADD", "update": "UPDATE", "delete": "DELETE"}
MAX_SHIFTS = 5  # times in a row that the last line may turn up further down
MAX_FILTERS = 4  # texts that a created row is looked for by
FEW = 50  # rows of an answer that should hold one


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a listing stands: the last line's position, counted from 1, and some of the lines up to it, it the last."""

    code: str
    position: int = 0
    seen: tuple[str, ...] = ()


class Pems:
    """The adapter of one dataset. `folder`: where relative files of the configuration are."""

    def __init__(self, contract: Contract, config: PemsConfig, *, folder: Path = Path(), clock: Clock = now):
        """Read the secret and open nothing yet; raises ConfigurationError."""
        aliases = aliases_of(contract, config)
        self._contract = contract
        self._config = config
        self._read = {name: alias.read for name, alias in aliases.items()}
        self._write = {name: alias.write for name, alias in aliases.items() if alias.write is not None}
        self._reader = GridReader(contract, self._read, config.organizations)
        self._listings = _listings(config.organizations)
        self._client = PemsClient(config, folder=folder, clock=clock)

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
            filters.append(Condition(self._read[VERSION], ">=", format_instant(since)))
        page, following = await self._follow(place, filters, self._config.page_size)
        if following is None:
            later = self._listings[self._listings.index(place.code) + 1 :]
            following = Place(code=later[0]) if later else None
        return Page(
            rows=page.rows,
            broken=page.broken,
            dropped=page.dropped,
            cursor=None if following is None else msgspec.json.encode(following).decode(),
            mark=page.mark,
            total=page.total if len(self._listings) == 1 else None,
        )

    async def read(self, key: str) -> Row | Broken | None:
        """See Upstream."""
        for code in self._config.organizations:
            page = await self._ask(code, self._named(code, key), 1, FEW)
            answered: tuple[Row | Broken, ...] = page.rows + page.broken
            for row in answered:
                if row.key in (key, None):
                    return row
        return None

    async def find_created(self, fields: Mapping[str, Any]) -> list[str]:
        """See Upstream."""
        place: Place | None = Place(code=self._code_of(fields))
        writable = self._write.keys() - set(self._identity)
        # A row of which nothing was said has nothing in it.
        wanted = {name: fields[name] for name in fields.keys() & writable} or dict.fromkeys(writable)
        found: dict[str, None] = {}
        while place is not None:
            filters = [Condition(self._read[ORGANIZATION], "=", place.code), *self._telling(wanted)]
            page, place = await self._follow(place, filters, self._config.page_size)
            found |= {row.key: None for row in page.rows if _agrees(row.document, wanted)}
        return list(found)

    async def _follow(self, place: Place, filters: list[Condition], size: int) -> tuple[GridPage, Place | None]:
        """The page of a listing after a place, and the place after it, None at the end."""
        page, start = await self._overlapping(place, filters, size)
        reached = start + len(page.identities) - 1
        stuck = not page.identities or page.identities == list(place.seen[-1:])
        if stuck and page.more is not False and (page.total or 0) > reached:
            raise Failed(f"PEMS sends no line after {reached} of {page.total}.")
        if stuck or _ended(page, reached):
            return page, None
        return page, Place(code=place.code, position=reached, seen=_some(page.identities))

    async def _overlapping(self, place: Place, filters: list[Condition], size: int) -> tuple[GridPage, int]:
        """A page that holds a line which was seen, or the listing's first, and its position.

        Lines before a seen one were seen, those after it follow without a gap: so none is passed over.
        """
        start, step, shifts = max(place.position, 1), 1, 0
        while True:
            page = await self._ask(place.code, filters, start, size)
            lines = page.identities
            if start > 1 and not set(place.seen) & set(lines):
                start, step = max(start - step, 1), min(2 * step, size - 1)
            elif place.seen and len(lines) > 1 and lines[-1] == place.seen[-1]:
                # New lines moved the last one down to the end of this page, and what follows it is still to come; or
                # else pages are not turned at all.
                start, shifts = start + len(lines) - 1, shifts + 1
                if shifts > MAX_SHIFTS:
                    raise Failed("PEMS sends the same lines whatever position it is asked for.")
            else:
                return page, start

    async def _ask(self, code: str, filters: list[Condition], position: int, size: int) -> GridPage:
        if position > 1 and self._reader.numbers is not None:
            try:
                return self._reader.read(await self._post_grid(code, filters, position, size, headed=False))
            except HeadersNeeded:
                pass  # the columns are others than those of the last headers
        return self._reader.read(await self._post_grid(code, filters, position, size, headed=True))

    async def _post_grid(self, code: str, filters: list[Condition], position: int, size: int, *, headed: bool) -> bytes:
        key = self._read[self._contract.key]
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
        return [Condition(self._read[ORGANIZATION], "=", code), Condition(self._read[self._contract.key], "=", key)]

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
            answer = await self._screen("GET", code, self._identified(code, key), None)
            words = words_of(None if answer is None else answer.ErrorAlert)
            if words and NOT_FOUND in words.lower():
                continue
            if words:
                raise read_refused(words)
            record = None if answer is None else answer.record
            if record is None:
                raise Failed("The answer of PEMS cannot be read: it holds no record.")
            document = read_document(self._contract, self._write, record)
            document |= {self._contract.key: key, ORGANIZATION: code}
            return Held(document=document, token=None if record.recordid is None else str(record.recordid))
        return None

    async def write(self, write: Write, held: Held | None) -> str:
        """See Upstream."""
        code = self._code_of(write.fields if held is None else held.document)
        pairs = self._identified(code, write.key) | self._written(write)
        answer = await self._screen(ACTIONS[write.op], code, pairs, None if held is None else held.token)
        if answer is None:
            raise OutcomeUnknown("The answer of PEMS to the write cannot be read.")
        words = words_of(answer.ErrorAlert)
        if words:
            raise write_refused(words)
        if answer.Result is None:
            question = words_of(answer.ConfirmationAlert)
            raise Refused(question) if question else OutcomeUnknown("PEMS does not say whether it wrote.")
        return self._assigned(answer) if write.key is None else write.key

    async def _screen(self, action: str, code: str, pairs: Pairs, token: str | None) -> ScreenAnswer | None:
        grid = self._config.grid
        body = screen_request(grid.screen, action, pairs, token)
        return read_answer(await self._client.post(grid.screen_path, body, organization=code, writing=action != "GET"))

    @property
    def _identity(self) -> tuple[str, str]:
        return self._contract.key, ORGANIZATION

    def _identified(self, code: str, key: str | None) -> Pairs:
        names = {self._contract.key: key, ORGANIZATION: code}
        return {self._write[name]: {"TEXTDATA": value} for name, value in names.items() if value is not None}

    def _written(self, write: Write) -> Pairs:
        """The fields as the screen takes them; raises Refused for one that it does not have."""
        pairs = {}
        for name, value in write.fields.items():
            field = self._contract.by_name[name]
            # What is inserted again may hold what PEMS alone gives to a line.
            unsaid = write.op == "insert" and (value is None or not field.editable)
            if name in self._identity or field.derived_from or (unsaid and name not in self._write):
                continue
            if name not in self._write:
                raise Refused(f"{name} cannot be written to PEMS.")
            pairs[self._write[name]] = write_value(field.type, value)
        return pairs

    def _assigned(self, answer: ScreenAnswer) -> str:
        record = answer.record
        key = None if record is None else record.values.get(self._write[self._contract.key], {}).get("TEXTDATA")
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


def _ended(page: GridPage, reached: int) -> bool:
    """Whether all that PEMS says is that there is no more; where it contradicts itself, the next page tells."""
    if page.more is None and page.total is None:
        return False
    return page.more is not True and (page.total is None or reached >= page.total)


def _some(identities: list[str]) -> tuple[str, ...]:
    """The first line of a page, and lines ever nearer to its end: some of them stay, whatever is deleted."""
    distances = [2**power for power in range(len(identities).bit_length())]
    return (identities[0], *(identities[-distance] for distance in reversed(distances)))


def _agrees(document: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether the row has just these values. PEMS makes an empty text null, and may make a flag of nothing N."""
    return all(
        document.get(name) == (None if value == "" else value) or (value is None and document.get(name) is False)
        for name, value in wanted.items()
    )
