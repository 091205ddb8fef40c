"""What a PEMS looks like from here, before anything is connected: one page and one record are read, nothing is written.

The report is for people: which columns and fields are there, and how their values are understood, with examples as they
came. What is wrong is listed in words; without any, the configuration fits.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from app.contracts import Contract
from app.upstream.pems.config import ORGANIZATION, VERSION, PemsConfig
from app.upstream.pems.forms import Forms
from app.upstream.pems.grid import Condition, GridPage, GridReader
from app.upstream.pems.screen import Pairs, Record
from app.upstream.pems.values import Unreadable
from app.upstream.protocol import Failed, Report, UpstreamError

EXAMPLES = 3
MOST_NAMES = 30  # of columns that nobody has mapped
FUTURE = timedelta(days=2)  # so far ahead nothing was modified, whatever the zone

PostGrid = Callable[[str, list[Condition]], Awaitable[bytes]]
Show = Callable[[str, str], Awaitable[Record | None]]


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked at, and with what: of the adapter."""

    contract: Contract
    config: PemsConfig
    read: Mapping[str, str]
    write: Mapping[str, str]
    reader: GridReader
    forms: Forms
    post: PostGrid
    show: Show
    modified_since: Callable[[datetime], Condition]


async def look(at: Look) -> Report:
    """The report. Raises nothing that upstream does wrong: it is among the problems."""
    problems: list[str] = []
    locale, grid = at.config.locale, at.config.grid
    found: dict[str, Any] = {
        "upstream": {"kind": "pems", "url": at.config.url, "tenant": at.config.tenant, "role": at.config.role},
        "settings": {
            "dataspy": grid.dataspy or "the account's default, which says which rows and columns come",
            "localize": grid.localize,
            "zone": locale.zone or "UTC",
            "dateOrder": locale.date_order,
            "decimalSign": locale.decimal_sign,
            "timeFormat": locale.time_format,
            "update": at.config.writes.update,
            "token": None if at.config.token is None else at.config.token.write,
        },
        "rights": {"grid": "refused", "screen": "not tried", "writing": "not tried: a check writes nothing"},
    }
    try:
        page = await _look_at_grid(at, found, problems)
        found["rights"]["grid"] = "reads"
        if page is not None:
            await _look_at_time_filter(at, found, problems, page)
            await _look_at_screen(at, found, problems, page)
    except UpstreamError as error:
        problems.append(str(error))
    return Report(fits=not problems, problems=problems, found=found)


# -- the grid ----------------------------------------------------------------------------------------------------------


async def _look_at_grid(at: Look, found: dict[str, Any], problems: list[str]) -> GridPage | None:
    """The first page that holds a line of ours; None where none does."""
    first: GridPage | None = None
    listings: list[dict[str, Any]] = []
    found["listings"] = listings
    for code in at.config.organizations:
        body = await at.post(code, [Condition(at.read[ORGANIZATION], "BEGINS", code)])
        page = at.reader.read(body)
        listings.append(
            {
                "organization": code,
                "total": page.total,
                "more": page.more,
                "lines": len(page.identities),
                "ours": len(page.rows),
                "others": page.dropped,
                "broken": len(page.broken),
            }
        )
        if page.identities and "columns" not in found:
            _tell_columns(at, found, problems, body)
        # The first of each kind and field: all lines tend to have the same.
        reasons = {(reason.code, reason.field): reason.message for row in page.broken for reason in row.reasons}
        problems += [f"{code}: {message}" for message in reasons.values()]
        if not page.identities:
            problems.append(f"{code}: no line comes. See the organization's code, the rights and the Dataspy.")
        first = first or (page if page.rows else None)
    return first


def _tell_columns(at: Look, found: dict[str, Any], problems: list[str], body: bytes) -> None:
    columns, cells = [], at.reader.cells(body)
    for column in at.reader.columns:
        values = cells.get(column.alias)
        if values is None:
            problems.append(f"The grid does not send {column.alias}, which is {column.field}.")
        received = [value for value in dict.fromkeys(map(_hashable, values or ())) if value not in (None, "")]
        columns.append(
            {
                "field": column.field,
                "alias": column.alias,
                "found": values is not None,
                "examples": [_example(value, column.read.value) for value in received[:EXAMPLES]],
            }
        )
    found["columns"] = columns
    known = {column.alias for column in at.reader.columns}
    found["unmapped"] = sorted(cells.keys() - known)[:MOST_NAMES]


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | None) else str(value)


def _example(received: Any, read: Callable[[Any], Any]) -> dict[str, Any]:
    try:
        return {"received": received, "understood": _plain(read(received)), "problem": None}
    except Unreadable as error:
        return {"received": received, "understood": None, "problem": str(error)}


def _plain(value: Any) -> Any:
    """As JSON keeps it; numbers with all their digits as text."""
    return value if isinstance(value, str | bool | None) else str(value)


async def _look_at_time_filter(at: Look, found: dict[str, Any], problems: list[str], page: GridPage) -> None:
    """Whether a filter by time brings the line that was modified then, and none that was not modified since."""
    if page.mark is None:
        problems.append(f"No line of the first page says when it was modified ({at.read[VERSION]}).")
        return
    row = next(row for row in page.rows if row.key == page.marked)
    code = row.document[ORGANIZATION]
    condition = at.modified_since(page.mark)
    of_code = Condition(at.read[ORGANIZATION], "=", code)
    keyed = Condition(at.read[at.contract.text_key], "=", row.key)
    brings = at.reader.read(await at.post(code, [of_code, keyed, condition]))
    beyond = at.reader.read(await at.post(code, [of_code, keyed, at.modified_since(page.mark + FUTURE)]))
    fits = bool(brings.rows) and not beyond.identities
    found["timeFilter"] = {
        "modified": row.document[VERSION],
        "sent": condition.VALUE,
        "bringsIt": bool(brings.rows),
        "leavesOutOthers": not beyond.identities,
    }
    if not fits:
        problems.append(
            f"A filter by time is not understood as it is meant: {condition.VALUE!r}. See locale.timeFormat and zone."
        )


# -- the screen --------------------------------------------------------------------------------------------------------


async def _look_at_screen(at: Look, found: dict[str, Any], problems: list[str], page: GridPage) -> None:
    """One record: its fields, how they are understood, and whether the grid says the same."""
    row = max(page.rows, key=lambda each: sum(value is not None for value in each.document.values()))
    found["rights"]["screen"] = "refused"
    record = await at.show(row.document[ORGANIZATION], row.key)
    if record is None:
        raise Failed(f"The screen has no record {row.key}, which the grid sends.")
    found["rights"]["screen"] = "reads"
    shown = record.values
    fields = [_field(at, name, shown, row.document, problems) for name in at.write]
    found["screen"] = {
        "record": row.key,
        "recordid": record.recordid is not None,
        "fields": fields,
        "unmapped": sorted(shown.keys() - set(at.write.values()))[:MOST_NAMES],
        "writes": {name: str(form) for name, form in at.forms.seen.items()},
    }
    if record.recordid is None:
        problems.append("The screen sends no recordid: edits of two people at once would not be noticed.")
    if at.config.token is not None and at.config.token.write not in shown:
        problems.append(f"The screen does not show {at.config.token.write}, which is to hold the token.")


def _field(at: Look, name: str, shown: Pairs, document: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """A field of the record, as it came and as it is understood."""
    field, on_screen = at.contract.by_name[name], at.write[name]
    told: dict[str, Any] = {"field": name, "name": on_screen, "found": on_screen in shown}
    if on_screen not in shown:
        problems.append(f"The screen does not show {on_screen}, which is {name}.")
        return told
    told["received"] = {member: value for member, value in (shown[on_screen] or {}).items() if value is not None}
    try:
        understood = at.forms.read(field.type, shown[on_screen] or {})
    except Unreadable as error:
        problems.append(f"{on_screen}: {error}")
        return told | {"understood": None}
    if understood != document.get(name) and not (understood in (None, False) and document.get(name) in (None, False)):
        problems.append(f"{name}: the screen says {understood!r}, the grid {document.get(name)!r}.")
    return told | {"understood": _plain(understood), "grid": _plain(document.get(name))}
