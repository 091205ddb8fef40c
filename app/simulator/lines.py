"""Lines as the simulator keeps them, and what PEMS calls their fields."""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import force_setattr

from app.base import exact_json

Kind = Literal["key", "text", "number", "date", "flag", "time"]
Value = str | Decimal | date | bool | None


class Line(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """A line, its fields in the order of the grid's columns. The collector has no business with a million of them."""

    pfa_id: str
    organization: str
    area_silo: str | None = None
    category: str | None = None
    forecast_category: str | None = None
    class_: str | None = msgspec.field(default=None, name="class")
    source: str | None = None
    dor: str | None = None
    monthly_rate: Decimal | None = None
    purchase_price: Decimal | None = None
    manufacturer: str | None = None
    model: str | None = None
    contract: str | None = None
    equipment: str | None = None
    original_start: date | None = None
    original_end: date | None = None
    forecast_start: date | None = None
    forecast_end: date | None = None
    actual_start: date | None = None
    actual_end: date | None = None
    is_actualized: bool = False
    is_discontinued: bool = False
    is_funds_transferable: bool = False
    pems_version: Annotated[datetime, msgspec.Meta(tz=True)]
    udfchar01: str | None = None
    udfnum01: Decimal | None = None
    udfdate01: date | None = None


NAMES: tuple[str, ...] = Line.__struct_fields__
FIELDS: tuple[str, ...] = Line.__struct_encode_fields__  # by the contract's names
SPARE = ("udfchar01", "udfnum01", "udfdate01")  # PEMS has them, the contract does not; the last ones of a line


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A field of the line under PEMS's names; `screen` is None where it cannot be written."""

    name: str
    field: str
    alias: str
    screen: str | None
    kind: Kind
    label: str
    values: tuple[str, ...] = ()


# The reading alias, the writing name, the kind, the label.
TABLE = """
pfs_id              PFS_ID           key     Line
pfs_a_org           PFS_A_ORG        key     Organization
pfs_f_area          PFS_F_AREA       text    Area
pfs_f_category      PFS_F_CATEGORY   text    Category
pfs_f_catdesc       PFS_F_CATDESC    text    Category Description
pfs_f_class         PFS_F_CLASS      text    Class
pfs_f_source        PFS_F_SOURCE     text    Source
pfs_f_dor           PFS_F_DOR        text    DOR
pfs_f_rental        PFS_F_RATE       number  Monthly Rate
pfs_f_purchase      PFS_F_PRICE      number  Purchase Price
pfs_f_manufacturer  PFS_F_MANUFACT   text    Manufacturer
pfs_f_model         PFS_F_MODEL      text    Model
pfs_p_projcode      -                text    Contract
pfs_equipment_tag   PFS_EQUIPMENT    text    Equipment
pfs_p_startdate     -                date    Plan Start
pfs_p_enddate       -                date    Plan End
pfs_f_startdate     PFS_F_STARTDATE  date    Forecast Start
pfs_f_enddate       PFS_F_ENDDATE    date    Forecast End
pfs_a_startdate     -                date    Actual Start
pfs_a_enddate       -                date    Actual End
pfs_f_actualized    PFA_ACT          flag    Actualized
pfs_f_discontinued  PFA_DIS          flag    Discontinued
pfs_f_fundstrans    PFS_FT           flag    Funds Transferable
pfs_lastmodified    -                time    Last Modified
pfs_udfchar01       PFS_UDFCHAR01    text    Spare Text
pfs_udfnum01        PFS_UDFNUM01     number  Spare Number
pfs_udfdate01       PFS_UDFDATE01    date    Spare Date
"""
ENUMS = {"source": ("Rental", "Purchase"), "dor": ("BEO", "PROJECT")}


def _columns() -> tuple[Column, ...]:
    rows = [row.split(maxsplit=3) for row in TABLE.strip().splitlines()]
    return tuple(
        msgspec.convert(
            {
                "name": name,
                "field": field,
                "alias": alias,
                "screen": None if screen == "-" else screen,
                "kind": kind,
                "label": label,
                "values": ENUMS.get(name, ()),
            },
            Column,
        )
        for name, field, (alias, screen, kind, label) in zip(NAMES, FIELDS, rows, strict=True)
    )


COLUMNS = _columns()
BY_ALIAS = {column.alias: column for column in COLUMNS}
BY_SCREEN = {column.screen: column for column in COLUMNS if column.screen}
BEFORE_SPARE = b',"%s":' % SPARE[0].encode()  # no text in JSON can say this: its quotes are escaped

UNIQUE = ("pfa_id", "equipment", "monthly_rate", "purchase_price", "organization", *SPARE)
SHARED = tuple(column.name for column in COLUMNS if column.kind != "flag" and column.name not in UNIQUE)

_decoder = msgspec.json.Decoder(Line, float_hook=Decimal)


def read_line(text: bytes | str) -> Line:
    """A line of its JSON text; raises msgspec.ValidationError. Members that PEMS does not keep are passed over."""
    line = _decoder.decode(text)
    force_setattr(line, "pems_version", line.pems_version.astimezone(UTC).replace(microsecond=0))
    return line


def read_lines(organization: str, texts: Iterable[str]) -> Iterator[Line]:
    """Lines of JSON texts, the organization's whatever they say. Equal values are kept once: half of the memory."""
    shared: dict[Value, Value] = {}
    for text in texts:
        line = read_line(text)
        force_setattr(line, "organization", organization)
        for name in SHARED:
            value = getattr(line, name)
            force_setattr(line, name, shared.setdefault(value, value))
        yield line


def document_text(line: Line) -> bytes:
    """The line by the contract's names, with what is derived and without the spare fields, as JSON."""
    plan = line.original_start is not None and line.original_end is not None
    actuals = line.actual_start is not None and line.actual_end is not None
    text = exact_json.encode(line)
    known = text[: text.rindex(BEFORE_SPARE)]
    return known + b"," + exact_json.encode({"hasPlan": plan, "hasActuals": actuals})[1:]


def document_of(line: Line) -> dict[str, Any]:
    """The same, decoded."""
    document: dict[str, Any] = exact_json.decode(document_text(line))
    return document


def spare_of(line: Line) -> dict[str, Any]:
    """The fields that the contract does not know."""
    return {name: getattr(line, name) for name in SPARE}


def held_of(line: Line) -> dict[str, Any]:
    """Everything that is kept of the line, decoded from its JSON."""
    held: dict[str, Any] = exact_json.decode(exact_json.encode(line))
    return held
