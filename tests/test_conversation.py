"""PEMS in the vendor's own terms: adapter, worker and command against the second fake, which knows the page alone."""

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import httpx
import msgspec
import pytest
from click.testing import CliRunner, Result

from app.base.database import Database
from app.base.settings import Settings
from app.cli import main
from app.contracts import PFA
from app.upstream.pems.adapter import Pems
from app.upstream.pems.config import Locale, PemsConfig, Writes
from app.upstream.pems.forms import Forms
from app.upstream.protocol import Failed, Question, Refused, Row, Stale, Unavailable, UpstreamError, Write
from app.web.auth import Role
from app.worker.loop import Worker
from app.worker.start import read_targets
from tests.support.syncing import A_CENTURY, KEPT, Ahead, defects
from tests.support.vendor import (
    EXAMPLES,
    GRIDS,
    SCREEN,
    Canned,
    Dataspy,
    Example,
    Line,
    Value,
    Vendor,
    alerted,
    envelope,
    read_datetime,
    written_datetime,
)
from tests.support.world import SECRET, User, World, open_world

# The contract's fields by their alias in the grid.
FIELDS: Final = {
    "pfs_id": "pfaId", "pfs_a_org": "organization", "pfs_f_area": "areaSilo", "pfs_f_category": "category",
    "pfs_f_catdesc": "forecastCategory", "pfs_f_class": "class", "pfs_f_source": "source", "pfs_f_dor": "dor",
    "pfs_f_rental": "monthlyRate", "pfs_f_purchase": "purchasePrice", "pfs_f_manufacturer": "manufacturer",
    "pfs_f_model": "model", "pfs_p_projcode": "contract", "pfs_equipment_tag": "equipment",
    "pfs_p_startdate": "originalStart", "pfs_p_enddate": "originalEnd", "pfs_f_startdate": "forecastStart",
    "pfs_f_enddate": "forecastEnd", "pfs_a_startdate": "actualStart", "pfs_a_enddate": "actualEnd",
    "pfs_f_actualized": "isActualized", "pfs_f_discontinued": "isDiscontinued",
    "pfs_f_fundstrans": "isFundsTransferable", "pfs_lastmodified": "pemsVersion",
}  # fmt: skip
ALIASES: Final = {field: alias for alias, field in FIELDS.items()}
PASSWORD = "a password of PEMS"
ACCOUNT: Final[dict[str, Any]] = {"auth": ("vanguard", PASSWORD), "tenant": "T1"}
MODIFIED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

# What nobody has mapped, a field of each kind.
SPARE: Final[dict[str, Value]] = {
    "PFS_UDFCHAR01": "SPARE",
    "PFS_UDFNUM01": Decimal("1234.50"),
    "PFS_UDFDATE01": date(2019, 7, 31),
    "PFS_UDFTIME01": datetime(2024, 6, 13, 15, 56, tzinfo=UTC),
    "PFS_UDFCHKBOX01": True,
    "PFS_UDFCHAR02": None,
}
FULL: Final[Line] = {
    "pfs_f_area": "NORTH", "pfs_f_category": "CRANES", "pfs_f_catdesc": "CRAWLER \"C\" <&> \u00dcBER 50\u00a0T",
    "pfs_f_class": "HEAVY", "pfs_f_source": "Rental", "pfs_f_dor": "BEO", "pfs_f_rental": Decimal("3825.50"),
    "pfs_f_purchase": Decimal("1234567.89"), "pfs_f_manufacturer": "LIEBHERR", "pfs_f_model": "LR 1300",
    "pfs_p_projcode": "P-1", "pfs_equipment_tag": "CRN-1", "pfs_p_startdate": date(2024, 6, 13),
    "pfs_p_enddate": date(2024, 12, 31), "pfs_f_startdate": date(2026, 1, 15), "pfs_f_enddate": date(2026, 7, 6),
    "pfs_a_startdate": date(2021, 12, 21), "pfs_a_enddate": date(2022, 1, 1), "pfs_f_actualized": True,
    "pfs_f_discontinued": False, "pfs_f_fundstrans": True, "pfs_lastmodified": MODIFIED,
}  # fmt: skip


def understood(value: Value) -> Any:
    """A value of PEMS as the contract has it."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return value.isoformat() if isinstance(value, date) else value


def document(vendor: Vendor, key: str, code: str = "RIO") -> dict[str, Any]:
    """A line of PEMS as a pull should bring it."""
    line = vendor.lines[code, key]
    return {field: understood(line[alias]) for alias, field in FIELDS.items()}


def entry(vendor: Vendor, **more: Any) -> dict[str, Any]:
    """The entry of the file of upstreams for this PEMS: what somebody writes who knows how it writes."""
    grid = {"dataPath": vendor.path} | dict(more.pop("grid", {}))
    plain = vendor.localize and not grid.get("localize", False)
    known = {
        "zone": vendor.zone,
        "timeFormat": vendor.filter_dates,
        "decimalSign": "," if vendor.numbers == "1.234,56" and not plain else ".",
        "dateOrder": "monthFirst" if vendor.dates == "M/D/YYYY HH:MM" else "dayFirst",
    }
    return {
        "url": vendor.url,
        "tenant": "T1",
        "role": "PLANNER",
        "organizations": ["RIO"],
        "auth": {"user": "vanguard", "passwordFile": "password"},
        "requestsPerSecond": 0,
        "pageSize": 4,
        "timeout": 60,
        "locale": known,
        "grid": grid,
    } | more


@asynccontextmanager
async def talking(vendor: Vendor, folder: Path, **more: Any) -> AsyncIterator[Pems]:
    """An adapter that has spoken to nobody yet."""
    (folder / "password").write_text(PASSWORD)
    pems = Pems(PFA, msgspec.convert(entry(vendor, **more), PemsConfig), folder=folder)
    try:
        yield pems
    finally:
        await pems.close()


async def pull(pems: Pems, since: datetime | None = None) -> dict[str, dict[str, Any]]:
    """All lines of a pull; it ends, and nothing about it is broken or doubtful."""
    found: dict[str, dict[str, Any]] = {}
    cursor: str | None = None
    for _ in range(60):
        page = await pems.page(since=since, cursor=cursor)
        assert (page.broken, page.doubt) == ((), None)
        found |= {row.key: row.document for row in page.rows}
        cursor = page.cursor
        if cursor is None:
            return found
    raise AssertionError("it does not end")


async def update(pems: Pems, key: str, **fields: Any) -> None:
    await pems.write(Write(op="update", key=key, fields=fields), await pems.hold(key))


def shown(vendor: Vendor, key: str) -> dict[str, str]:
    """The record on the screen as it comes over the wire: the JSON of each field, by its name."""
    sent = {"PFS_ID": key, "PFS_A_ORG": "RIO"}
    body = {
        "USERDEFINEDSCREENNAME": "CUPFA2",
        "USERDEFINEDSERVICEACTION": "GET",
        "USERDEFINEDSCREENFIELDVALUELIST": {
            "USERDEFINEDSCREENFIELDVALUEPAIR": [
                {"USERDEFINEDSCREENFIELDNAME": name, "USERDEFINEDSCREENFIELDVALUE": {"TEXTDATA": text}}
                for name, text in sent.items()
            ]
        },
    }
    headers = {"tenant": "T1", "organization": "RIO"}
    answer = httpx.post(vendor.url + SCREEN, json=body, headers=headers, auth=vendor.auth, timeout=60)
    record = json.loads(answer.content.decode("utf-8-sig"))["Result"]["ResultData"]
    for name in vendor.within:
        record = record[name]
    pairs = record["USERDEFINEDSCREENFIELDVALUELIST"]["USERDEFINEDSCREENFIELDVALUEPAIR"]
    return {pair["USERDEFINEDSCREENFIELDNAME"]: json.dumps(pair["USERDEFINEDSCREENFIELDVALUE"]) for pair in pairs}


def sent(vendor: Vendor) -> dict[str, str]:
    """The JSON of each field of the last request, by its name."""
    return {name: json.dumps(value, default=float) for name, value in vendor.log[-1].sent}


def actions(vendor: Vendor) -> list[str]:
    """What was asked of PEMS, in turn, but for lists."""
    return [each.action for each in vendor.log if each.action != "LIST"]


# --- 1. the page's own values -----------------------------------------------------------------------------------------

CELLS = {"date": "pfs_f_startdate", "moment": "pfs_lastmodified", "number": "pfs_f_rental", "flag": "pfs_f_actualized"}
ON_SCREEN = {
    "DATETIMEDATA": ("pfs_f_startdate", "PFS_F_STARTDATE"),
    "NUMERICDATA": ("pfs_f_rental", "PFS_F_RATE"),
    "TEXTDATA": ("pfs_f_actualized", "PFA_ACT"),
}
OTHERS: Final[dict[str, tuple[Value, ...]]] = {
    "DATETIMEDATA": (date(2026, 7, 1), date(2020, 1, 1), date(2024, 2, 29), date(2027, 12, 31), None),
    "NUMERICDATA": (Decimal("0.5"), Decimal(7), Decimal("123456.78"), Decimal(0), None),
    "TEXTDATA": (True, False, None),
}


def of_kind(*kinds: str) -> Any:
    examples = [example for example in EXAMPLES if example.kind in kinds]
    return pytest.mark.parametrize("example", examples, ids=[f"{each.kind} {each.wire}"[:60] for each in examples])


@of_kind(*CELLS)
async def test_a_cell_of_the_page_is_read_without_any_setting_but_the_zone(example: Example, tmp_path: Path) -> None:
    kind, _, value, settings = example
    with Vendor(**ACCOUNT, **settings) as vendor:
        vendor.add("RIO", "A", **{CELLS[kind]: value})
        locale = {"zone": settings.get("zone", "UTC")}
        async with talking(vendor, tmp_path, locale=locale, grid={"localize": True}) as pems:
            assert (await pull(pems))["A"][FIELDS[CELLS[kind]]] == understood(value)


@of_kind("filter")
async def test_a_time_filter_is_written_as_the_page_has_it(example: Example, tmp_path: Path) -> None:
    assert isinstance(example.value, datetime)
    with Vendor(**ACCOUNT, **example.settings) as vendor:
        vendor.add("RIO", "A", pfs_lastmodified=example.value - timedelta(minutes=1))
        vendor.add("RIO", "B", pfs_lastmodified=example.value)
        async with talking(vendor, tmp_path, locale={"zone": "UTC"}) as pems:
            assert [*await pull(pems, example.value)] == ["B"]
        assert example.wire in json.dumps(vendor.log[0].sent)


@of_kind(*ON_SCREEN)
async def test_a_field_of_the_page_is_read_and_written_in_the_form_that_was_read(
    example: Example, tmp_path: Path
) -> None:
    """The same value makes the same JSON; another one and back again, and the record is as it was, to the byte."""
    kind, wire, value, settings = example
    alias, name = ON_SCREEN[kind]
    field = FIELDS[alias]
    with Vendor(**ACCOUNT, **settings, extra_fields=SPARE) as vendor:
        vendor.add("RIO", "A", **(FULL | {alias: value}))
        before = shown(vendor, "A")
        assert before[name] == json.dumps({kind: wire})
        async with talking(vendor, tmp_path) as pems:
            held = await pems.hold("A")
            assert held is not None
            assert held.document[field] == understood(value)
            await update(pems, "A", **{field: understood(value)})
            assert sent(vendor) == before
            for other in OTHERS[kind]:
                await update(pems, "A", **{field: understood(other)})
                assert {**sent(vendor), name: ""} == {**before, name: ""}
                assert vendor.lines["RIO", "A"][alias] == other
                await update(pems, "A", **{field: understood(value)})
                assert shown(vendor, "A") == before


async def test_a_flag_that_says_nothing_of_its_form_is_written_as_the_setting_says(tmp_path: Path) -> None:
    """0 stands for false beside 1 and beside -1."""
    with Vendor(**ACCOUNT, screen_flags="-1/0") as vendor:
        vendor.add("RIO", "A", pfs_f_actualized=False)
        async with talking(vendor, tmp_path, writes={"flags": "-1/0"}) as pems:
            await update(pems, "A", isActualized=True)
        assert vendor.lines["RIO", "A"]["pfs_f_actualized"] is True


ZONES = ("UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Marquesas", "Pacific/Apia", "Pacific/Kiritimati")
DAYS = [date(year, month, day) for year in (1999, 2024, 2026) for month, day in ((1, 1), (2, 28), (7, 1), (12, 31))]


@pytest.mark.parametrize("year", ["epoch", "calendar"])
@pytest.mark.parametrize("zone", ZONES)
def test_any_day_is_written_over_any_other_wherever_the_server_stands(zone: str, year: Any) -> None:
    here = ZoneInfo(zone)
    for before, after in itertools.product(DAYS, DAYS):
        forms = Forms(Writes(), Locale(zone=zone))
        shown = {"DATETIMEDATA": written_datetime(before, here, year)}
        assert forms.read("date", shown) == before.isoformat()
        written = forms.write("date", after.isoformat(), shown)["DATETIMEDATA"]
        assert read_datetime(written, year).date() == after
        assert forms.write("date", before.isoformat(), shown) == shown
        into_empty = forms.write("date", after.isoformat(), {"DATETIMEDATA": None})["DATETIMEDATA"]
        assert read_datetime(into_empty, year).date() == after


# --- 2. all that an installation may be -------------------------------------------------------------------------------

OPTIONS: Final[dict[str, tuple[Any, ...]]] = {
    "flags": ("Y/N", "Yes/No", "+/-", "1/0", "-1/0", "true/false", "bare"),
    "screen_flags": ("true/false", "bare", "-1/0", "1/0", "+/-", "Yes/No", "Y/N"),
    "shape": ("D", "CELL", "DATAFIELD", "grids"),
    "dates": ("M/D/YYYY HH:MM", "DD/MM/YYYY", "15-JAN-2026", "iso"),
    "numbers": ("1,234.56", "1.234,56", "plain"),
    "zone": ("UTC", "America/New_York", "Pacific/Auckland"),
    "records": ("total", "null", "count"),
    "most_rows": (None, 2),
    "path": ("", GRIDS),
    "localize": (True, False),
    "asked": (False, True),  # for cells in the locale
    "blank": (None, ""),
    "cursor": ("last", "first"),
    "filter_dates": ("%Y-%m-%d %H:%M", "%d-%b-%Y %H:%M"),
    "year": ("epoch", "calendar"),
    "numeric": ("object", "bare"),
    "put": (True, False),
    "update": ("record", "changes"),  # the second where nothing is blanked by it
    "whole_answer": (True, False),
    "within": ((), ("UserDefinedScreenService",)),
    "lock": (True, False),
    "normalizing": ((), ("upper", "trim", "round")),
    "alert_status": (400, 200),
    "bom": (False, True),
}
OF_THE_ADAPTER = {"asked", "update"}


def covering(options: Mapping[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Few choices of one value for each option, such that any two values of two options occur together."""
    names = list(options)
    places = {name: range(len(options[name])) for name in names}
    left = {
        ((one, i), (two, j)): None
        for one, two in itertools.combinations(names, 2)
        for i, j in itertools.product(places[one], places[two])
    }
    found = []
    while left:
        chosen = dict(next(iter(left)))
        for name in names:
            if name in chosen:
                continue
            so_far = list(chosen.items())

            def gain(place: int, name: str = name, so_far: list[tuple[str, int]] = so_far) -> int:
                pairs = [((name, place), each) for each in so_far]
                return sum(pair in left or pair[::-1] in left for pair in pairs)

            chosen[name] = max(places[name], key=gain)
        for pair in itertools.combinations([(name, chosen[name]) for name in names], 2):
            left.pop(pair, None)
        found.append({name: options[name][chosen[name]] for name in names})
    return found


COVER: Final = covering(OPTIONS)
every_pair_of_options = pytest.mark.parametrize("options", COVER, ids=range(len(COVER)))
LINES: Final[dict[str, Line]] = {
    "P-01": FULL,
    "P-02": {},
    "P-03": {"pfs_f_rental": Decimal("1.234"), "pfs_f_purchase": Decimal("1234567")},
    "P-04": {"pfs_f_rental": Decimal("1234"), "pfs_f_purchase": Decimal("0")},
    "P-05": {"pfs_f_startdate": date(2024, 2, 29), "pfs_f_enddate": date(2024, 3, 2)},
    "P-06": {"pfs_f_startdate": date(2026, 1, 1), "pfs_f_enddate": date(2027, 1, 1)},
    "P-07": {"pfs_f_actualized": False, "pfs_f_discontinued": False, "pfs_f_fundstrans": False},
    "P-08": {"pfs_f_model": "1.5", "pfs_f_class": "Y", "pfs_f_area": "06/07/2024", "pfs_equipment_tag": "-1"},
    "P-09": {"pfs_lastmodified": datetime(2026, 7, 1, 23, 30, tzinfo=UTC)},
    "P-10": {"pfs_lastmodified": datetime(2025, 12, 31, 23, 59, tzinfo=UTC)},
    "P-11": {"pfs_f_source": "Purchase", "pfs_f_dor": "PROJECT"},
}


def kept(alias: str, value: Value, vendor: Vendor) -> Value:
    """What PEMS makes of a value."""
    if not vendor.normalizing or alias in ("pfs_f_source", "pfs_f_dor"):
        return value
    if isinstance(value, Decimal):
        return value.quantize(Decimal("0.01"), ROUND_HALF_UP)
    return value.strip().upper() if isinstance(value, str) else value


@contextmanager
def installed(options: Mapping[str, Any]) -> Iterator[Vendor]:
    """A PEMS that is so, and holds lines as it keeps them, those of another organization among them."""
    chosen = {name: value for name, value in options.items() if name not in OF_THE_ADAPTER}
    with Vendor(**ACCOUNT, **chosen, extra_fields=SPARE, clock=lambda: MODIFIED) as vendor:
        for key, line in LINES.items():
            vendor.add("RIO", key, **{alias: kept(alias, value, vendor) for alias, value in line.items()})
        for key in ("P-00", "P-041", "P-042", "P-043", "P-99"):
            vendor.add("RIO2", key, **FULL)
        yield vendor
        assert not vendor.failures


def to(options: Mapping[str, Any], vendor: Vendor, folder: Path, **more: Any) -> Any:
    """An adapter that is set to what it meets."""
    update = "record" if vendor.put else options["update"]
    return talking(vendor, folder, **{"grid": {"localize": options["asked"]}, "writes": {"update": update}, **more})


WRITTEN: Final[dict[str, Value]] = {
    "pfs_f_area": None, "pfs_f_category": " Tower cranes ", "pfs_f_source": "Purchase", "pfs_f_model": "\u00fc 2",
    "pfs_f_rental": None, "pfs_f_purchase": Decimal("98765.125"), "pfs_f_startdate": date(2027, 7, 1),
    "pfs_f_enddate": None, "pfs_f_actualized": False, "pfs_f_discontinued": True, "pfs_f_fundstrans": None,
}  # fmt: skip


def fields(line: Mapping[str, Value]) -> dict[str, Any]:
    return {FIELDS[alias]: understood(value) for alias, value in line.items()}


@every_pair_of_options
async def test_a_pull_brings_every_line_as_pems_has_it(options: dict[str, Any], tmp_path: Path) -> None:
    with installed(options) as vendor:
        async with to(options, vendor, tmp_path) as pems:
            assert await pull(pems) == {key: document(vendor, key) for key in LINES}
            row = await pems.read("P-01")
            assert isinstance(row, Row)
            assert row.document == document(vendor, "P-01")
            since = datetime(2026, 7, 1, 23, 30, tzinfo=UTC)
            assert [*await pull(pems, since)] == ["P-09"]
            assert {*await pull(pems, MODIFIED)} == LINES.keys() - {"P-10"}


@every_pair_of_options
async def test_an_update_changes_what_it_says_and_nothing_else(options: dict[str, Any], tmp_path: Path) -> None:
    with installed(options) as vendor:
        line = dict(vendor.lines["RIO", "P-01"])
        async with to(options, vendor, tmp_path) as pems:
            for change in (WRITTEN, {alias: FULL[alias] for alias in WRITTEN}):
                await update(pems, "P-01", **fields(change))
                line |= {alias: kept(alias, value, vendor) for alias, value in change.items()}
                assert vendor.lines["RIO", "P-01"] == line
                held, row = await pems.hold("P-01"), await pems.read("P-01")
                assert held is not None
                assert isinstance(row, Row)
                assert row.document == document(vendor, "P-01")
                assert held.document.items() <= row.document.items()


@every_pair_of_options
async def test_a_line_can_be_inserted_first_of_all(options: dict[str, Any], tmp_path: Path) -> None:
    """In the forms that the screen has, which nobody has seen yet."""
    given = {alias: value for alias, value in WRITTEN.items() if value is not None}
    with installed(options) as vendor:
        async with to(options, vendor, tmp_path) as pems:
            key = await pems.write(Write(op="insert", key=None, fields=fields(given)), None)
            line = vendor.lines["RIO", key]
            wanted = SPARE | {alias: kept(alias, value, vendor) for alias, value in given.items()}
            assert {name: line.get(name) for name in wanted} == {
                name: kept(name, value, vendor) for name, value in wanted.items()
            }
            row = await pems.read(key)
            assert isinstance(row, Row)
            assert row.document == document(vendor, key)
            named = await pems.write(Write(op="insert", key="NEW-1", fields={"category": "CRANES"}), None)
            assert named == "NEW-1"
            assert vendor.lines["RIO", "NEW-1"]["pfs_f_category"] == "CRANES"


@every_pair_of_options
async def test_the_first_write_of_all_may_be_into_an_empty_line(options: dict[str, Any], tmp_path: Path) -> None:
    """It shows no number, date or flag whose form could be followed."""
    change: Line = {"pfs_f_rental": Decimal("7.25"), "pfs_f_enddate": date(2027, 1, 1), "pfs_f_actualized": True}
    with installed(options) as vendor:
        line = vendor.lines["RIO", "P-02"]
        async with to(options, vendor, tmp_path) as pems:
            await update(pems, "P-02", **fields(change))
        assert vendor.lines["RIO", "P-02"] == line | change


@every_pair_of_options
async def test_what_somebody_changed_meanwhile_is_neither_overwritten_nor_deleted(
    options: dict[str, Any], tmp_path: Path
) -> None:
    with installed(options) as vendor:
        async with to(options, vendor, tmp_path) as pems:
            held = await pems.hold("P-01")
            vendor.change("RIO", "P-01", pfs_f_model="THEIRS")
            theirs = vendor.lines["RIO", "P-01"]
            for write in (
                Write(op="update", key="P-01", fields={"model": "MINE"}),
                Write(op="delete", key="P-01", fields={}),
            ):
                with pytest.raises(Stale):
                    await pems.write(write, held)
                assert vendor.lines["RIO", "P-01"] == theirs
            await pems.write(Write(op="delete", key="P-01", fields={}), await pems.hold("P-01"))
            assert ("RIO", "P-01") not in vendor.lines
            assert (await pems.read("P-01"), await pems.hold("P-01"), await pems.exists("P-01")) == (None, None, False)
            with pytest.raises(Stale):
                await pems.write(Write(op="update", key="P-01", fields={"model": "MINE"}), held)


@every_pair_of_options
async def test_a_line_of_the_second_code_is_not_found_under_the_first(options: dict[str, Any], tmp_path: Path) -> None:
    with installed(options) as vendor:
        vendor.add("LIMA", "L-1", **FULL)
        async with to(options, vendor, tmp_path, organizations=["RIO", "LIMA"]) as pems:
            assert (await pull(pems))["L-1"] == document(vendor, "L-1", "LIMA")
            row = await pems.read("L-1")
            assert isinstance(row, Row)
            assert row.document == document(vendor, "L-1", "LIMA")
            assert await pems.exists("L-1")
            await update(pems, "L-1", model="NEW")
            assert vendor.lines["LIMA", "L-1"]["pfs_f_model"] == "NEW"
            assert ("RIO", "L-1") not in vendor.lines


@pytest.mark.parametrize("year", ["epoch", "calendar"])
@pytest.mark.parametrize("numeric", ["object", "bare"])
async def test_into_an_empty_pems_is_written_as_the_settings_say(tmp_path: Path, year: Any, numeric: Any) -> None:
    with Vendor(**ACCOUNT, year=year, numeric=numeric, screen_flags="+/-", zone="America/New_York") as vendor:
        line: Line = {"pfs_f_rental": Decimal("7.25"), "pfs_f_startdate": date(2026, 7, 1), "pfs_f_actualized": True}
        settings = {"year": year, "numbers": numeric, "flags": "+/-"}
        async with talking(vendor, tmp_path, writes=settings) as pems:
            key = await pems.write(Write(op="insert", key=None, fields=fields(line)), None)
        assert line.items() <= vendor.lines["RIO", key].items()


async def test_a_field_that_the_screen_leaves_out_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    """The page does not say that a screen leaves out what is empty: it may as well be called otherwise."""
    with Vendor(**ACCOUNT, leave_out=True) as vendor:
        vendor.add("RIO", "A", **(FULL | {"pfs_f_model": None}))
        async with talking(vendor, tmp_path) as pems:
            with pytest.raises(Failed, match="does not show PFS_F_MODEL"):
                await pems.hold("A")


async def test_the_hour_that_comes_twice_hides_no_modification(tmp_path: Path) -> None:
    """Whoever asks for what was modified since some minute of the night in which clocks are put back or forward gets
    it, though a cell and a filter say neither which of the two hours they mean nor that one is left out.
    """
    nights = (datetime(2025, 11, 2, 4, tzinfo=UTC), datetime(2025, 3, 9, 5, tzinfo=UTC))
    moments = [night + timedelta(minutes=30 * number) for night in nights for number in range(9)]
    with Vendor(**ACCOUNT, zone="America/New_York", localize=False) as vendor:
        for number, moment in enumerate(moments):
            vendor.add("RIO", f"{number:02}", pfs_lastmodified=moment)
        async with talking(vendor, tmp_path) as pems:
            for since in moments:
                wanted = {f"{number:02}" for number, moment in enumerate(moments) if moment >= since}
                assert wanted <= {*await pull(pems, since)}


@pytest.mark.parametrize("shape", ["D", "grids"])
@pytest.mark.parametrize("records", ["total", "null", "count"])
@pytest.mark.parametrize("most_rows", [2, 3])
async def test_pages_are_turned_however_few_lines_pems_puts_on_one(
    tmp_path: Path, shape: Any, records: Any, most_rows: int
) -> None:
    with installed({"shape": shape, "records": records, "most_rows": most_rows}) as vendor:
        async with talking(vendor, tmp_path, pageSize=1000) as pems:
            assert (await pull(pems)).keys() == LINES.keys()
        assert len(vendor.log) <= 5 * len(vendor.lines)


async def test_the_dataspy_that_is_set_shows_what_the_accounts_own_hides(tmp_path: Path) -> None:
    spies = {"1": Dataspy(), "7": Dataspy(lambda line: str(line["pfs_id"]) > "P-03", ["pfs_f_model"])}
    with installed({"dataspies": spies, "dataspy": "7"}) as vendor:
        async with talking(vendor, tmp_path, grid={"dataspy": "1"}) as pems:
            assert await pull(pems) == {key: document(vendor, key) for key in LINES}


def nothing(vendor: Vendor) -> Canned:
    """A page without a line, of which PEMS says that more follow."""
    metadata = {"RECORDS": None, "CLIENTROWS": 0, "MORERECORDPRESENT": "+", "CURRENTCURSORPOSITION": 1}
    bare: dict[str, Any] = {"DATARECORD": None, "NEXTCURSORPOSITION": 1, "RECORDS": None}
    held = bare if vendor.shape == "grids" else {"GRID": {"METADATA": metadata, "DATA": {"ROW": []}}}
    return Canned(json.dumps(envelope(held)).encode(), action="LIST")


@pytest.mark.parametrize("after", range(1, 5))
async def test_an_empty_page_in_the_middle_is_not_the_end(tmp_path: Path, after: int) -> None:
    with installed({}) as vendor:
        async with talking(vendor, tmp_path) as pems:
            found: set[str] = set()
            cursor: str | None = None
            for number in range(30):
                vendor.canned += [nothing(vendor)] * (number == after)
                page = await pems.page(since=None, cursor=cursor)
                found |= {row.key for row in page.rows}
                cursor = page.cursor
                if cursor is None:
                    break
            assert (found, cursor, page.doubt) == ({*LINES}, None, None)


SAID: Final = {
    "Record not found": None,
    "Authorization failed": Unavailable,
    "RIO is not a valid organization": Refused,
    "The system is busy": Failed,
}


@pytest.mark.parametrize("status", [400, 200])
@pytest.mark.parametrize("words", SAID)
async def test_an_error_of_a_read_is_told_by_its_words(tmp_path: Path, words: str, status: Any) -> None:
    """Of what is gone there is nothing; what is not valid is not worth a retry; the rest is."""
    with Vendor(**ACCOUNT) as vendor:
        vendor.add("RIO", "A")
        async with talking(vendor, tmp_path) as pems:
            for call in (pems.read, pems.hold):
                vendor.canned.append(alerted(error=words, status=status))
                if SAID[words] is None:
                    assert await call("A") is None
                    continue
                with pytest.raises(UpstreamError, match=words) as told:
                    await call("A")
                assert type(told.value) is SAID[words]


@pytest.mark.parametrize("status", [400, 200])
@pytest.mark.parametrize("action", ["LIST", "GET", "UPDATE"])
async def test_a_question_is_told_as_one_whatever_was_asked(tmp_path: Path, action: str, status: int) -> None:
    with Vendor(**ACCOUNT) as vendor:
        vendor.add("RIO", "A")
        async with talking(vendor, tmp_path) as pems:
            held = await pems.hold("A")
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "LIST": lambda: pems.page(since=None, cursor=None),
                "GET": lambda: pems.hold("A"),
                "UPDATE": lambda: pems.write(Write(op="update", key="A", fields={"model": "M"}), held),
            }
            vendor.canned.append(alerted(question="There are open lines. Go on?", status=status))
            with pytest.raises(Question, match=r"PEMS: There are open lines\. Go on\?"):
                await calls[action]()


# --- 3. the whole path ------------------------------------------------------------------------------------------------


class Conversation:
    """A worker over PEMS, which goes when it is told to, and somebody who plans. All go by one clock."""

    def __init__(self, world: World, vendor: Vendor, worker: Worker, ann: User, clock: Ahead):
        self.world, self.vendor, self.worker, self.ann, self.clock = world, vendor, worker, ann, clock

    async def work(self) -> None:
        """Do what is due, to the end."""
        before = defects()
        self.world.clock.at = self.clock()
        await self.worker.step()
        await self.worker.idle()
        assert defects() == before, "a job ended with a defect; the log tells which"
        assert not self.vendor.failures

    async def later(self, **by: float) -> None:
        """The same after a while."""
        self.clock.by += timedelta(**by)
        await self.work()

    async def pull(self, *, full: bool = False) -> dict[str, Any]:
        """Ask for a pull and have it done; its record, as people see it."""
        asked = await self.ann.post("sync/pull", {"full": full})
        assert asked.status_code == 202, asked.text
        await self.work()
        run: dict[str, Any] = (await self.ann.get(f"sync/runs/{asked.json()['runId']}")).json()
        return run

    async def commit(self, key: str, op: str = "update", **fields: Any) -> None:
        """Draft it and commit it; what was asked of PEMS before is forgotten."""
        await self.ann.draft(key, fields, op=op)
        answer = await self.ann.commit(key)
        assert answer.status_code == 200, answer.text
        self.vendor.log.clear()

    async def change(self) -> dict[str, Any]:
        """How far the only change is."""
        (row,) = await self.world.db.fetch("SELECT row_key, state, attempts, next_attempt_at FROM pfa.change")
        return dict(row)

    async def failed(self) -> dict[str, Any]:
        """The only change that waits for a person, as people see it."""
        (found,) = (await self.ann.get("sync/failed")).json()["data"]
        return dict(found)

    async def circuit(self) -> str:
        """Whether PEMS is asked anything, as people see it."""
        return str((await self.ann.get("sync/health")).json()["circuit"]["state"])

    async def check_mirror(self, *keys: str) -> None:
        """People see these lines, or all, as PEMS has them; of the time of a change cells tell the minute alone."""
        rows = {row["id"]: row["data"] for row in await self.ann.rows(pageSize=1000)}
        wanted = keys or [key for code, key in self.vendor.lines if code == "RIO"]
        assert keys or rows.keys() == set(wanted)
        for key in wanted:
            told = document(self.vendor, key)
            del told["pemsVersion"]
            assert {name: rows[key].get(name) for name in told} == told


@asynccontextmanager
async def open_path(url: str, folder: Path, vendor: Vendor, **more: Any) -> AsyncIterator[Conversation]:
    """The first pull is over."""
    target = {
        "organization": "acme", "dataset": "pfa", "kind": "pems",
        "pullEvery": 900, "fullEvery": 900_000, "deletionShare": 0.5,
    }  # fmt: skip
    (folder / "password").write_text(PASSWORD)
    (folder / "upstreams.json").write_text(json.dumps({"upstreams": [target | entry(vendor, **more)]}))
    settings = Settings(database_url=url, secret=SECRET, environment="test", upstreams=str(folder / "upstreams.json"))
    clock, database = Ahead(), Database(settings)
    vendor.clock = clock
    await database.open()
    worker = Worker(database, read_targets(settings), [PFA], KEPT, read_clock=clock.read)
    try:
        async with open_world(url, token_ttl=A_CENTURY) as world:
            await world.organization("acme")
            world.clock.at = clock()
            path = Conversation(world, vendor, worker, await world.user("ann", role=Role.ADMIN), clock)
            await path.work()
            yield path
    finally:
        await worker.idle()
        await worker.close()
        await database.close()


@pytest.fixture
def pems() -> Iterator[Vendor]:
    """PEMS as the vendor delivers it."""
    with installed({"asked": False, "update": "record"}) as vendor:
        yield vendor


@pytest.fixture
async def path(database_url: str, tmp_path: Path, pems: Vendor) -> AsyncIterator[Conversation]:
    async with open_path(database_url, tmp_path, pems) as path:
        yield path


NEW: Final[dict[str, Any]] = {
    "category": "Cranes", "source": "Rental", "dor": "BEO", "model": "planner", "monthlyRate": 7.5,
    "forecastStart": "2026-02-01", "forecastEnd": "2026-07-31",
}  # fmt: skip
INSTALLATIONS: Final = COVER[:: len(COVER) // 6]


@pytest.mark.parametrize("options", INSTALLATIONS, ids=range(len(INSTALLATIONS)))
async def test_a_draft_goes_to_pems_and_comes_back(options: dict[str, Any], database_url: str, tmp_path: Path) -> None:
    """Given the first pull, when somebody edits, adds and deletes lines, then PEMS has it, each once, and people see
    what PEMS made of it.
    """
    more = {"grid": {"localize": options["asked"]}}
    with installed(options) as vendor:
        async with open_path(database_url, tmp_path, vendor, **more) as path:
            await path.check_mirror()
            vendor.log.clear()
            await path.ann.draft("P-01", {"model": " planner ", "monthlyRate": 99.5, "isFundsTransferable": False})
            await path.ann.draft("P-11", op="delete")
            await path.ann.draft("temporary", NEW, op="insert")
            assert (await path.ann.commit()).status_code == 200
            await path.work()
            line = vendor.lines["RIO", "P-01"]
            assert (line["pfs_f_rental"], line["pfs_f_fundstrans"]) == (Decimal("99.5"), False)
            assert line["pfs_f_model"] == kept("pfs_f_model", " planner ", vendor)
            assert sorted(action for action in actions(vendor) if action != "GET") == ["ADD", "DELETE", "UPDATE"]
            await path.check_mirror()
            assert (await path.ann.row("P-01"))["syncState"] == "pristine"
            run = await path.pull(full=True)
            assert (run["state"], run["counts"]["updated"], run["counts"]["quarantined"]) == ("succeeded", 0, 0)
            await path.check_mirror()


async def test_an_edit_by_somebody_in_pems_becomes_a_conflict(path: Conversation) -> None:
    await path.commit("P-01", model="planner", equipment="planner")
    path.vendor.change("RIO", "P-01", pfs_f_model="theirs", pfs_f_area="SOUTH")
    await path.work()
    row = await path.ann.row("P-01")
    assert (row["syncState"], row["data"]["areaSilo"]) == ("conflict", "SOUTH")
    conflict = {"id": "P-01", "field": "model", "base": "LR 1300", "theirs": "theirs", "mine": "planner"}
    assert row["conflicts"] == [conflict]
    assert "UPDATE" not in actions(path.vendor)
    await path.ann.commit("P-01", resolutions=[{"id": "P-01", "field": "model", "use": "mine"}])
    await path.work()
    line = path.vendor.lines["RIO", "P-01"]
    assert (line["pfs_f_model"], line["pfs_equipment_tag"], line["pfs_f_area"]) == ("planner", "planner", "SOUTH")
    await path.check_mirror()


async def test_a_line_that_pems_does_not_find_is_a_conflict_with_nothing(path: Conversation) -> None:
    """Record not found, on a read: it is gone."""
    await path.commit("P-01", model="planner")
    del path.vendor.lines["RIO", "P-01"]
    await path.work()
    row = await path.ann.row("P-01")
    assert row["syncState"] == "conflict"
    assert [(each["field"], each["theirs"]) for each in row["conflicts"]] == [(None, None)]
    assert actions(path.vendor) == ["GET"]


async def test_a_line_that_was_deleted_in_pems_is_added_again_with_what_can_be_written(path: Conversation) -> None:
    await path.commit("P-01", model="planner")
    before = path.vendor.lines.pop(("RIO", "P-01"))
    await path.work()
    answer = await path.ann.commit("P-01", resolutions=[{"id": "P-01", "field": None, "use": "mine"}])
    assert answer.status_code == 200, answer.text
    await path.work()
    assert (await path.ann.row("P-01"))["syncState"] == "pristine"
    line = path.vendor.lines["RIO", "P-01"]
    only = {"pfs_p_projcode", "pfs_p_startdate", "pfs_p_enddate", "pfs_a_startdate", "pfs_a_enddate"}
    assert {alias for alias in only if line[alias] is not None} == set()
    written = FIELDS.keys() - only - {"pfs_lastmodified", "pfs_f_model"}
    assert {alias: line[alias] for alias in written} == {alias: before[alias] for alias in written}
    await path.check_mirror()


@pytest.mark.parametrize("action", ["UPDATE", "DELETE"])
async def test_a_write_whose_answer_was_lost_is_not_done_twice(path: Conversation, action: str) -> None:
    """What PEMS made of the values is nobody's edit."""
    path.vendor.normalizing = ("upper", "trim", "round")
    if action == "DELETE":
        await path.commit("P-11", "delete")
    else:
        await path.commit("P-01", model=" planner ", monthlyRate=1.005)
    path.vendor.canned.append(Canned(action=action, done=True, status=0))
    await path.work()
    assert (await path.change())["state"] == "committed"
    await path.later(minutes=3)
    assert ((await path.change())["state"], actions(path.vendor).count(action)) == ("synced", 1)
    assert path.vendor.lines["RIO", "P-01"]["pfs_f_model"] in ("LR 1300", "PLANNER")
    await path.check_mirror()


LOST = Canned(action="ADD", done=True, status=0)


async def test_a_new_line_whose_answer_was_lost_is_found_by_its_token(
    database_url: str, tmp_path: Path, pems: Vendor
) -> None:
    """Whatever PEMS made of its values."""
    pems.normalizing = ("upper", "trim", "round")
    spare = {"token": {"read": "pfs_equipment_tag", "write": "PFS_EQUIPMENT"}, "mapping": {"equipment": None}}
    async with open_path(database_url, tmp_path, pems, **spare) as path:
        await path.commit("temporary", "insert", **NEW)
        pems.canned.append(LOST)
        await path.work()
        assert (await path.change())["state"] == "committed"
        await path.later(minutes=3)
        change = await path.change()
        assert (change["state"], change["row_key"]) == ("synced", "100001")
        assert actions(pems).count("ADD") == 1
        assert (await path.ann.row("100001"))["data"]["model"] == "PLANNER"


async def test_a_new_line_whose_answer_was_lost_is_found_by_its_values(path: Conversation) -> None:
    await path.commit("temporary", "insert", **NEW)
    path.vendor.canned.append(LOST)
    await path.work()
    await path.later(minutes=3)
    assert ((await path.change())["state"], actions(path.vendor).count("ADD")) == ("synced", 1)
    await path.check_mirror()


async def test_a_new_line_that_pems_may_have_made_something_else_of_waits_for_a_person(path: Conversation) -> None:
    """It is not sent twice; who sees that it is none of the lines like it sends it again."""
    path.vendor.normalizing = ("upper", "trim", "round")
    await path.commit("temporary", "insert", **NEW)
    path.vendor.canned.append(LOST)
    await path.work()
    await path.later(minutes=3)
    await path.later(hours=1)
    failed = await path.failed()
    assert (failed["state"], failed["code"]) == ("sync_error", "NEAR_MATCH")
    assert [row["id"] for row in failed["near"]] == ["100001"]
    assert actions(path.vendor).count("ADD") == 1
    assert (await path.ann.post("sync/retry", {"all": True})).status_code == 200
    await path.later(minutes=3)
    assert (await path.change())["state"] == "synced"
    assert actions(path.vendor).count("ADD") == 2
    await path.pull(full=True)
    await path.check_mirror()


@pytest.mark.parametrize("status", [400, 200])
async def test_an_error_waits_for_a_person_with_pems_own_words(path: Conversation, status: Any) -> None:
    await path.commit("P-01", model="planner")
    path.vendor.canned.append(alerted(error="LR 1300 is not a valid model", status=status, action="UPDATE"))
    await path.work()
    await path.later(hours=1)
    failed = await path.failed()
    assert (failed["state"], failed["code"], failed["attempts"]) == ("sync_error", "REFUSED", 1)
    assert "LR 1300 is not a valid model" in failed["error"]
    assert actions(path.vendor) == ["GET", "UPDATE"]
    assert await path.circuit() == "closed"


@pytest.mark.parametrize("status", [400, 200])
@pytest.mark.parametrize("action", ["GET", "UPDATE"])
async def test_a_question_waits_for_a_person_and_is_asked_once(path: Conversation, action: str, status: Any) -> None:
    await path.commit("P-01", model="planner")
    question = "The line has open orders. Go on?"
    path.vendor.canned.append(alerted(question=question, status=status, action=action))
    await path.work()
    await path.later(hours=1)
    failed = await path.failed()
    assert (failed["state"], failed["code"], failed["attempts"]) == ("sync_error", "QUESTION", 1)
    assert question in failed["error"]
    assert actions(path.vendor).count(action) == 1
    assert path.vendor.lines["RIO", "P-01"]["pfs_f_model"] == "LR 1300"
    assert (await path.ann.post("sync/retry", {"all": True})).status_code == 200
    await path.later(minutes=1)
    assert path.vendor.lines["RIO", "P-01"]["pfs_f_model"] == "planner"


OUTAGES: Final = {
    "a login page": Canned(b"<!DOCTYPE html><form>", headers={"Content-Type": "text/html; charset=utf-8"}),
    "a login page of no type": Canned(b"\n <html>Log in"),
    "a login page with 400": Canned(b"<html>Log in", status=400, headers={"Content-Type": "text/html"}),
    "a redirect": Canned(status=302, headers={"Location": "/login"}),
    "a redirect for ever": Canned(status=308, headers={"Location": "/login"}),
}


@pytest.mark.parametrize("action", ["GET", "UPDATE"])
@pytest.mark.parametrize("outage", OUTAGES)
async def test_a_login_page_opens_the_circuit_and_uses_up_no_attempt(
    path: Conversation, outage: str, action: str
) -> None:
    await path.commit("P-01", model="planner")
    for _ in range(12):  # more than a change has attempts
        path.vendor.canned.append(OUTAGES[outage]._replace(action=action))
        await path.later(hours=2)
        assert await path.circuit() == "open"
    change = await path.change()
    assert (change["state"], change["attempts"]) == ("committed", 0)
    asked = len(path.vendor.log)
    await path.later(seconds=60)
    assert len(path.vendor.log) == asked, "nobody asks while it is open"
    await path.later(hours=2)
    assert ((await path.change())["state"], await path.circuit()) == ("synced", "closed")
    assert path.vendor.lines["RIO", "P-01"]["pfs_f_model"] == "planner"
    await path.check_mirror("P-01")


async def test_an_account_that_is_refused_opens_the_circuit(path: Conversation) -> None:
    await path.commit("P-01", model="planner")
    path.vendor.canned.append(alerted(error="Authorization failed", action="GET"))
    await path.work()
    change = await path.change()
    assert (change["state"], change["attempts"], await path.circuit()) == ("committed", 0, "open")
    await path.later(minutes=6)
    assert ((await path.change())["state"], await path.circuit()) == ("synced", "closed")


UNREADABLE: Final = {
    "a login page": (OUTAGES["a login page"], "web page", "open"),
    "a redirect": (OUTAGES["a redirect"], "sends us elsewhere", "open"),
    "an account that is refused": (alerted(error="Authorization failed"), "Authorization failed", "open"),
    "what is not valid": (alerted(error="7 is not a valid dataspy"), "7 is not a valid dataspy", "closed"),
    "a question": (alerted(question="Show all lines?"), "Show all lines?", "closed"),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_pull_ends_at_what_another_request_would_not_mend(path: Conversation, name: str) -> None:
    canned, words, circuit = UNREADABLE[name]
    path.vendor.log.clear()
    path.vendor.canned.append(canned)
    run = await path.pull(full=True)
    assert run["state"] == "failed"
    assert words in run["error"]["message"]
    assert (len(path.vendor.log), await path.circuit()) == (1, circuit)
    await path.check_mirror()


async def test_429_that_names_no_time_is_backed_off_from(path: Conversation) -> None:
    """`Retry-After: 0` does not mean to ask at once, and again, and again."""
    await path.commit("P-01", model="planner")
    for times in range(1, 6):
        path.vendor.canned.append(Canned(status=429, headers={"Retry-After": "0"}, action="GET"))
        await path.work()
        assert len(path.vendor.log) == times
        change = await path.change()
        assert (change["state"], change["attempts"]) == ("committed", 0)
        assert change["next_attempt_at"] > path.clock()
        assert await path.circuit() == ("open" if times == 5 else "closed")
        path.clock.by += timedelta(seconds=2)
    await path.later(minutes=1)
    assert ((await path.change())["state"], await path.circuit()) == ("synced", "closed")


@pytest.mark.parametrize("year", ["epoch", "calendar"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Auckland"])
async def test_the_first_of_january_of_two_years_arrives(
    database_url: str, tmp_path: Path, zone: str, year: Any
) -> None:
    """Where the beginning of a year is the whole date, and the year itself is one in another zone."""
    with installed({"zone": zone, "year": year}) as vendor:
        async with open_path(database_url, tmp_path, vendor) as path:
            for key in ("P-01", "P-02"):
                await path.ann.draft(key, {"forecastStart": "2027-01-01", "forecastEnd": "2028-01-01"})
            assert (await path.ann.commit()).status_code == 200
            await path.work()
            for key in ("P-01", "P-02"):
                line = vendor.lines["RIO", key]
                assert (line["pfs_f_startdate"], line["pfs_f_enddate"]) == (date(2027, 1, 1), date(2028, 1, 1))
            await path.check_mirror()


@pytest.mark.parametrize("numeric", ["object", "bare"])
async def test_a_line_with_a_number_can_be_edited(database_url: str, tmp_path: Path, numeric: Any) -> None:
    """The number it has, and what stands beside it, which leaves the number alone."""
    with installed({"numeric": numeric}) as vendor:
        async with open_path(database_url, tmp_path, vendor) as path:
            await path.commit("P-01", model="planner")
            await path.work()
            assert vendor.lines["RIO", "P-01"]["pfs_f_rental"] == Decimal("3825.50")
            await path.ann.draft("P-01", {"monthlyRate": 4000.25})
            await path.ann.commit()
            await path.work()
            assert vendor.lines["RIO", "P-01"]["pfs_f_rental"] == Decimal("4000.25")
            await path.check_mirror()


async def test_a_dataspy_that_hides_lines_deletes_nothing(path: Conversation) -> None:
    """Only the line that is gone from the screen, too, goes; the run says what it doubts."""
    hidden = {"P-03", "P-04", "P-05"}
    path.vendor.dataspies, path.vendor.dataspy = {"7": Dataspy(lambda line: line["pfs_id"] in hidden)}, "7"
    del path.vendor.lines["RIO", "P-06"]
    run = await path.pull(full=True)
    assert (run["state"], run["counts"]["deleted"]) == ("succeeded", 1)
    assert "upstream has 3 all the same" in json.dumps(run)
    await path.check_mirror()


async def test_a_time_filter_that_is_read_otherwise_is_noticed(path: Conversation) -> None:
    """10 September is read as 9 October: what was modified since then would be nothing, for ever."""
    path.vendor.change("RIO", "P-09", pfs_lastmodified=datetime(2026, 9, 10, 8, 30, tzinfo=UTC))
    assert (await path.pull())["state"] == "succeeded"
    path.vendor.filter_dates = "%Y-%d-%m %H:%M"
    path.vendor.change("RIO", "P-01", pfs_f_model="theirs", pfs_lastmodified=datetime(2026, 9, 10, 8, 31, tzinfo=UTC))
    run = await path.pull()
    assert (run["state"], run["error"]["code"]) == ("failed", "WATERMARK_ROW_MISSING")
    run = await path.pull()
    assert (run["state"], run["full"], run["counts"]["updated"]) == ("succeeded", True, 1)
    await path.check_mirror()


async def test_a_dataspy_that_leaves_out_a_column_breaks_no_line_in_the_mirror(path: Conversation) -> None:
    """The pull waits for somebody who knows whether the column is gone."""
    path.vendor.dataspies, path.vendor.dataspy = {"7": Dataspy(without=["pfs_f_model"])}, "7"
    run = await path.pull(full=True)
    assert (run["state"], run["error"]["code"]) == ("failed", "SCHEMA_DRIFT")
    assert "pfs_f_model is gone" in run["error"]["message"]
    assert (run["counts"]["deleted"], run["counts"]["updated"]) == (0, 0)
    assert (await path.ann.get("sync/quarantine")).json()["data"] == []
    await path.check_mirror()


# --- 4. vanguard upstream check ---------------------------------------------------------------------------------------


def check(vendor: Vendor, folder: Path, *arguments: str, **more: Any) -> Result:
    """What the command says; and PEMS was read, and nothing else."""
    (folder / "password").write_text(PASSWORD)
    target = {"organization": "acme", "dataset": "pfa", "kind": "pems"}
    (folder / "upstreams.json").write_text(json.dumps({"upstreams": [target | entry(vendor, **more)]}))
    environment = {
        "VANGUARD_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "VANGUARD_SECRET": SECRET,
        "VANGUARD_UPSTREAMS": str(folder / "upstreams.json"),
    }
    before = {key: dict(line) for key, line in vendor.lines.items()}
    result = CliRunner(env=environment).invoke(main, ["upstream", "check", *arguments])
    assert {each.action for each in vendor.log} <= {"LIST", "GET"}
    assert vendor.lines == before
    assert PASSWORD not in result.output
    return result


@every_pair_of_options
def test_a_pems_that_fits_is_said_to_fit(options: dict[str, Any], tmp_path: Path) -> None:
    with installed(options) as vendor:
        result = check(vendor, tmp_path, "--json", grid={"localize": options["asked"]})
        report = json.loads(result.output)
        assert (report["problems"], report["fits"], result.exit_code) == ([], True, 0)
        assert {each.action for each in vendor.log} == {"LIST", "GET"}


def test_people_are_told_how_each_column_and_field_is_understood(tmp_path: Path) -> None:
    with installed({"localize": False}) as vendor:
        result = check(vendor, tmp_path)
    assert result.exit_code == 0
    assert "3,825.50 -> 3825.50" in result.output
    assert "1/15/2026 00:00 -> 2026-01-15" in result.output
    assert '"NUMOFDEC":2' in result.output
    assert "PFS_UDFCHAR01" in result.output
    assert result.output.rstrip().endswith("It fits.")


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_pems_answers_instead_is_named(tmp_path: Path, name: str) -> None:
    with installed({}) as vendor:
        vendor.canned.append(UNREADABLE[name][0])
        result = check(vendor, tmp_path)
    assert result.exit_code == 1
    assert UNREADABLE[name][1] in result.output


def test_a_time_filter_that_is_read_otherwise_is_named(tmp_path: Path) -> None:
    with installed({"filter_dates": "%Y-%d-%m %H:%M"}) as vendor:
        locale = entry(vendor)["locale"] | {"timeFormat": "%Y-%m-%d %H:%M"}
        result = check(vendor, tmp_path, locale=locale)
    assert result.exit_code == 1
    assert "See locale.timeFormat and zone." in result.output


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    spies = {"7": Dataspy(without=["pfs_f_model", "pfs_f_rental"])}
    with installed({"dataspies": spies, "dataspy": "7"}) as vendor:
        result = check(vendor, tmp_path)
    assert result.exit_code == 1
    for alias, field in (("pfs_f_model", "model"), ("pfs_f_rental", "monthlyRate")):
        assert f"The grid does not send {alias}, which is {field}." in result.output
    assert "things to look at" in result.output


def test_a_locale_that_has_two_readings_is_named(tmp_path: Path) -> None:
    """06/07/2024 and 1,234: which day, which number, the settings have to say."""
    with installed({"localize": False, "dates": "DD/MM/YYYY"}) as vendor:
        result = check(vendor, tmp_path, locale={"zone": "UTC"})
        assert result.exit_code == 1
        assert "locale.decimalSign says which" in result.output
        assert "locale.dateOrder says which" in result.output
        settings = {"zone": "UTC", "decimalSign": ".", "dateOrder": "dayFirst"}
        assert check(vendor, tmp_path, locale=settings).exit_code == 0


def test_a_field_that_the_screen_does_not_have_is_named(tmp_path: Path) -> None:
    with installed({}) as vendor:
        other = {"model": {"read": "pfs_f_model", "write": "PFS_F_OTHER"}}
        result = check(vendor, tmp_path, mapping=other)
    assert result.exit_code == 1
    assert "The screen does not show PFS_F_OTHER, which is model." in result.output
