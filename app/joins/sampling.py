"""What is measured of rows, within bounds: however large a dataset is, so many rows of it are read, and no more.

A dataset of few rows is read whole. Of a larger one random pages are, the same each time; where those have hardly a row
of the organization, its first rows are read by their ids.
"""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from app.base.statements import Statement, statement
from app.contracts import Contract
from app.engine.desk import Desk
from app.engine.view import Composed
from app.joins.texts import NUMBERS, can_join, found_in, is_made, text_of

MEASURE_SIZE = statement("joins/measure_size")
PROFILE_VALUES = statement("joins/profile_values")
PROBE_VALUES = statement("joins/probe_values")

SAMPLE = 10_000  # rows: as many different values at most
ENOUGH = 1_000  # rows of a random sample: with fewer it says too little
GLANCE = 4  # one in so many rows of a random sample says what fields are like
MORE = 8  # times as many pages, where other organizations have most of the rows
AT_MOST = 4 * SAMPLE  # rows of pages that hold more than was expected
FEW_A_PAGE = 8  # rows, of a table that nobody has analyzed
SEED = 17
PAGES = f"pfa.mirror AS m TABLESAMPLE system ({{percent}}) REPEATABLE ({SEED})"
ROWS = "pfa.mirror AS m"
MOST_FIELDS = 60  # of a dataset, that are looked at: keys and what has an index first
EVERYTHING = 2**62  # rows

Fields = tuple[str, ...]


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows of a mirror are read. `rows`: how many it has, `exactly` or about; `percent`: the share of pages,
    None for rows in the order of their ids, `most` of them.
    """

    rows: int
    exactly: bool
    most: int
    percent: float | None = None

    @property
    def whole(self) -> bool:
        """Whether all are read."""
        return self.exactly and self.percent is None and self.rows <= self.most


class Values(msgspec.Struct, frozen=True, kw_only=True):
    """The values of fields, taken together, in the rows that were read. `greatest`: rows of one value; `smallest` and
    `largest` of a single field with numbers.
    """

    rows: int
    filled: int
    different: int
    greatest: int
    smallest: Decimal | None
    largest: Decimal | None


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a child's `different` values in a parent. `rows` of the child were read, `filled` of them have a
    value, `matched` a partner; `greatest`: rows of one value that is found.
    """

    rows: int
    filled: int
    different: int
    found: int
    repeated: int
    matched: int
    greatest: int


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset as its sample has it, and the values of each field that can join: of some of the sample's `rows`."""

    extent: Extent
    rows: int
    fields: Mapping[str, Values]


def fields_of(desk: Desk) -> list[str]:
    """The fields that are looked at, keys and indexed ones first."""
    contract = desk.contract
    fields = [field for field in contract.fields if can_join(field) or field.name == contract.id_field]
    fields.sort(key=lambda field: (field.name not in contract.key_fields, not field.indexed))
    return [field.name for field in fields[:MOST_FIELDS]]


async def profile(desk: Desk) -> Profile:
    """The values of a dataset's fields, from a sample."""
    names = fields_of(desk)
    sets = [(name,) for name in names]
    size = await desk.row(MEASURE_SIZE, most=SAMPLE + 1)
    assert size is not None, "there is a table"
    if size["counted"] <= SAMPLE:
        extent = Extent(rows=size["counted"], exactly=True, most=SAMPLE)
        return _profile(extent, names, await read_values(desk, extent, sets))
    about = size["rows"] or size["pages"] * FEW_A_PAGE
    percent = min(100.0, 100 * SAMPLE / about)
    for share in (percent, min(100.0, percent * MORE)):
        extent = Extent(rows=size["counted"], exactly=False, most=AT_MOST, percent=share)
        read = await read_values(desk, extent, sets, GLANCE)
        count = GLANCE * read[0].rows if read else 0
        extent = msgspec.structs.replace(extent, rows=max(size["counted"], round(count * 100 / share)))
        if count >= ENOUGH:
            return _profile(extent, names, read)
    extent = Extent(rows=extent.rows, exactly=False, most=SAMPLE)
    return _profile(extent, names, await read_values(desk, extent, sets, GLANCE))


async def profile_whole(desk: Desk, fields: Fields) -> Values | None:
    """The values of some fields, taken together, of all rows; None where there are none."""
    read = await read_values(desk, Extent(rows=EVERYTHING, exactly=True, most=EVERYTHING), [fields])
    return read[0] if read else None


async def read_values(desk: Desk, extent: Extent, sets: Sequence[Fields], one_in: int = 1) -> list[Values]:
    """The values of each of these sets of fields, of one in so many rows; nothing where there are no rows."""
    types = desk.contract.types
    numbers = [place for place, (name, *more) in enumerate(sets) if not more and types[name] in NUMBERS]
    filled = profile_statement(desk.contract, extent, sets)
    rows = await desk.connection.rows(Composed(filled, [*_arguments(desk, extent, one_in), numbers, *_percent(extent)]))
    found = {row["slot"]: Values(**{name: row[name] for name in Values.__struct_fields__}) for row in rows}
    return [found[place] for place in range(len(sets))] if found else []


async def probe(child: Desk, extent: Extent, sets: Sequence[Fields], parent: Desk, fields: Fields, one_in: int = 1,
                ) -> list[Probe | None]:  # fmt: skip
    """What of each set's values the parent has in its fields; None where no row was read. `one_in`: of so many of the
    child's rows one.
    """
    filled = probe_statement(child.contract, extent, sets, parent.contract, fields)
    rows = await child.connection.rows(Composed(filled, [*_arguments(child, extent, one_in), *_percent(extent)]))
    found = {row["slot"]: Probe(**{name: row[name] for name in Probe.__struct_fields__}) for row in rows}
    return [found.get(place) for place in range(len(sets))]


async def probe_whole(
    child: Desk, extent: Extent, values: Fields, parent: Desk, fields: Fields, most: int
) -> tuple[Extent, Probe | None]:
    """The same of one set, of all rows of the child; of those of `extent` where there are more than `most`. Also which
    rows were read.
    """
    size = await child.row(MEASURE_SIZE, most=SAMPLE + 1)
    assert size is not None, "there is a table"
    if not extent.whole and size["rows"] <= most:
        (found,) = await probe(child, Extent(rows=most, exactly=True, most=most + 1), [values], parent, fields)
        if found is not None and found.rows <= most:
            return Extent(rows=found.rows, exactly=True, most=most), found
    (found,) = await probe(child, extent, [values], parent, fields)
    return extent, found


def thinned(rows: int) -> int:
    """One in how many rows is enough for a first look."""
    return max(1, math.floor(rows / ENOUGH))


def _arguments(desk: Desk, extent: Extent, one_in: int) -> list[object]:
    return [desk.organization, extent.most, one_in]


def _percent(extent: Extent) -> list[object]:
    return [] if extent.percent is None else [extent.percent]


def profile_statement(contract: Contract, extent: Extent, sets: Sequence[Fields]) -> Statement:
    """What profiles these sets of fields; their places are in its answer."""
    filled = PROFILE_VALUES.within(contract.schema)
    return filled.fill(pages=_pages(contract, extent, 5), **_values(contract, sets))


def probe_statement(
    child: Contract, extent: Extent, sets: Sequence[Fields], parent: Contract, fields: Fields
) -> Statement:
    """What looks for the values of these sets in the parent's fields."""
    filled = PROBE_VALUES.within(child.schema)
    values = _values(child, sets, as_id=is_made(parent, fields))
    return filled.fill(pages=_pages(child, extent, 4), found=found_in(parent, fields), **values)


def _pages(contract: Contract, extent: Extent, place: int) -> str:
    text = ROWS if extent.percent is None else PAGES.format(percent=f"${place}::real")
    return text.replace("pfa.", f"{contract.schema}.")


def _values(contract: Contract, sets: Sequence[Fields], *, as_id: bool = False) -> dict[str, str]:
    """Each set's values at its place: arrays side by side, for a list of VALUES is made anew for each row."""
    places, values = range(len(sets)), [text_of(contract, fields, "m", as_id=as_id) for fields in sets]
    return {"slots": f"ARRAY[{', '.join(map(str, places))}]", "values": f"ARRAY[{', '.join(values)}]"}


def _profile(extent: Extent, names: Sequence[str], read: Sequence[Values]) -> Profile:
    return Profile(
        extent=extent,
        rows=read[0].rows if read else 0,
        fields=dict(zip(names, read, strict=True)) if read else {},
    )
