"""Every way of writing that the simulator knows, with the settings that fit, through the whole of the adapter.

Of all combinations as many are tried as it takes to meet each pair of values once.
"""

import random
from collections.abc import Iterator
from decimal import Decimal
from itertools import combinations
from typing import Any, get_args

import pytest

from app.contracts import PFA
from app.simulator import Simulator, Writing
from app.simulator.writing import Dates, FlagForm, Numbers, Shape
from app.upstream.pems.adapter import Pems
from app.upstream.pems.config import Grid, Locale, Token, Writes
from app.upstream.protocol import Created, Held, Refused, Row, Stale, Write
from tests.support.pems import FIRST, NOW, connected, documents, keys, known, pull, simulator, update

Variant = dict[str, Any]

# What differs, each with its values; the last three are the adapter's settings.
AXES: dict[str, tuple[Any, ...]] = {
    "shape": get_args(Shape),
    "dates": get_args(Dates),
    "times": ("utc", "local"),
    "zone": ("UTC", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"),
    "numbers": get_args(Numbers),
    "flags": get_args(FlagForm),
    "typed": (False, True),
    "localizes": (True, False),
    "records": ("total", "page", "null"),
    "more": ("right", "absent", "no", "yes"),
    "bom": (False, True),
    "year": ("epoch", "calendar"),
    "screen_numbers": ("object", "bare"),
    "screen_flags": get_args(FlagForm),
    "alerts": (400, 200),
    "update": ("patch", "put"),
    "normalize": (False, True),
    "localize": (False, True),
    "told": (False, True),
    "sends": ("record", "changes"),
}
ORDERS: dict[Dates, Any] = {"text": None, "iso": None, "us": "monthFirst", "eu": "dayFirst"}
SIGNS: dict[Numbers, Any] = {"grouped": ".", "plain": ".", "comma": ",", "comma_plain": ","}
SPARE = {"udfchar01": "OURS", "udfnum01": Decimal("1.50"), "udfdate01": "2026-07-01"}
TOKEN = Token(read="pfs_udfchar01", write="PFS_UDFCHAR01")
SECOND, THIRD = "PFA-0000002", "PFA-0000003"


def fits(variant: Variant) -> bool:
    """Whether nothing is lost: changes alone empty the rest where an UPDATE replaces."""
    return not (variant.get("update") == "put" and variant.get("sends") == "changes")


def covering() -> Iterator[Variant]:
    """Variants that hold each pair of values, as few as a greedy choice finds."""
    drawn = random.Random(7)
    missing = {
        ((one, left), (other, right))
        for one, other in combinations(AXES, 2)
        for left in AXES[one]
        for right in AXES[other]
        if fits({one: left, other: right})
    }
    while missing:
        (one, left), (other, right) = min(missing, key=str)
        candidates = []
        for _ in range(30):
            variant = {name: drawn.choice(values) for name, values in AXES.items()} | {one: left, other: right}
            if fits(variant):
                candidates.append((len(pairs(variant) & missing), str(variant), variant))
        _, _, variant = max(candidates)
        missing -= pairs(variant)
        yield variant


def pairs(variant: Variant) -> set[tuple[tuple[str, Any], tuple[str, Any]]]:
    return {((one, variant[one]), (other, variant[other])) for one, other in combinations(AXES, 2)}


VARIANTS = list(covering())
EACH = pytest.mark.parametrize("variant", VARIANTS, ids=range(len(VARIANTS)))


def settings(variant: Variant) -> dict[str, Any]:
    """The adapter's, as whoever knows this PEMS would set them; `told`: also how it is to be written to."""
    zone = None if variant["zone"] == "UTC" else variant["zone"]
    locale = Locale(date_order=ORDERS[variant["dates"]], decimal_sign=SIGNS[variant["numbers"]], zone=zone)
    if variant["localizes"] and not variant["localize"]:
        # The same everywhere, whatever the account's locale is.
        locale = Locale(decimal_sign=".", zone=zone)
    told: dict[str, Any] = {
        "year": variant["year"],
        "numbers": variant["screen_numbers"],
        "flags": variant["screen_flags"],
    }
    writes = Writes(update=variant["sends"], **(told if variant["told"] else {}))
    return {"locale": locale, "writes": writes, "grid": Grid(localize=variant["localize"]), "token": TOKEN}


def writing(variant: Variant) -> Writing:
    return Writing(**{name: value for name, value in variant.items() if name not in ("localize", "told", "sends")})


@pytest.fixture
async def sim(anyio_backend: str) -> Any:
    """Lines with every kind of value, those that two locales would read in two ways among them."""
    async with simulator(RIO=14, RIO2=3) as found:
        fields: list[dict[str, Any]] = [
            {"monthlyRate": Decimal("1234"), "purchasePrice": Decimal("1234567.5"), "forecastStart": "2024-06-07"},
            {"monthlyRate": Decimal("1.234"), "purchasePrice": Decimal("0.001"), "forecastStart": "2024-12-31"},
            {"monthlyRate": Decimal("999.999"), "purchasePrice": 0, "forecastEnd": "2024-01-01"},
            {"monthlyRate": None, "forecastStart": None, "forecastEnd": None, "model": None},
            {
                "originalStart": "1999-02-28",
                "originalEnd": "2024-02-29",
                "actualStart": "2026-07-01",
                "areaSilo": "é 7",
            },
        ]
        for key, edit in zip(keys(found, "RIO"), fields, strict=False):
            found.edit("RIO", key, edit)
        flags = ("isActualized", "isDiscontinued", "isFundsTransferable")
        found.edit("RIO", FIRST, dict.fromkeys(flags, True) | SPARE)
        found.edit("RIO", SECOND, dict.fromkeys(flags, False) | SPARE)
        yield found


def minute(text: str) -> str:
    return f"{text[:16]}:00Z"


def as_read(sim: Simulator, variant: Variant) -> dict[str, dict[str, Any]]:
    """What the simulator holds, times to the minute where it says no seconds."""
    lines = known(sim, "RIO")
    localized = variant["localize"] or not variant["localizes"]
    if localized and variant["times"] == "local":
        return {key: line | {"pemsVersion": minute(line["pemsVersion"])} for key, line in lines.items()}
    return lines


@EACH
async def test_a_pull_reads_every_line_as_it_is(sim: Simulator, variant: Variant) -> None:
    sim.writing = writing(variant)

    async with connected(sim.url, **settings(variant)) as pems:
        pages = await pull(pems, most=6)
        since = await pull(pems, since=NOW, most=6)

        assert [broken for page in pages for broken in page.broken] == []
        assert documents(pages) == as_read(sim, variant)
        assert (pages[-1].doubt is not None) == (variant["more"] in ("no", "yes"))
        assert documents(since).items() <= documents(pages).items()
        assert {FIRST, SECOND, THIRD} <= documents(since).keys()
        row = await pems.read(FIRST)
        assert isinstance(row, Row)
        assert row.document == documents(pages)[FIRST]


CHANGES: list[dict[str, Any]] = [
    {"forecastStart": "2024-03-04"},
    {"forecastStart": "2026-12-31", "forecastEnd": "2027-01-01"},
    {"monthlyRate": Decimal("1234.5"), "purchasePrice": Decimal("2")},
    {"isActualized": False, "isDiscontinued": True, "isFundsTransferable": True},
    {"areaSilo": 'a "quoted" é text', "source": "Purchase", "dor": "BEO"},
    {"equipment": None, "forecastEnd": None, "purchasePrice": None},
]


@EACH
async def test_an_update_arrives_and_nothing_else_changes(sim: Simulator, variant: Variant) -> None:
    """A date, a number, a flag, a text, a null; the very first one after the start, and on a line of nulls."""
    sim.writing = writing(variant)
    async with connected(sim.url, **settings(variant)) as pems:
        for key in (FIRST, SECOND, "PFA-0000004"):
            spare = sim.spare("RIO", key)
            for change in CHANGES:
                before = known(sim, "RIO")[key]
                await update(pems, key, **change)
                after = known(sim, "RIO")[key]

                expected = before | change
                # What is sent again may be made something else of, too.
                sent = expected.keys() if variant["sends"] == "record" else change.keys()
                assert after == expected | normalized(variant, expected, sent) | {"pemsVersion": "2026-03-01T12:00:00Z"}
                assert sim.spare("RIO", key) == spare


def normalized(variant: Variant, line: dict[str, Any], sent: Any) -> dict[str, Any]:
    """What a normalizing PEMS makes of the fields that it is sent, of which a client learns by reading."""
    if not variant["normalize"]:
        return {}
    made: dict[str, Any] = {}
    for name in sent:
        value = line[name]
        if name in ("model", "manufacturer") and value:
            made[name] = value.upper()
        if name in ("monthlyRate", "purchasePrice") and value is not None:
            made[name] = Decimal(value).quantize(Decimal("0.01"), "ROUND_HALF_UP")
    return made | ({"dor": "PROJECT"} if line["dor"] is None else {})


@EACH
async def test_an_unchanged_record_is_held_as_a_pull_reads_it(sim: Simulator, variant: Variant) -> None:
    sim.writing = writing(variant)
    editable = {field.name for field in PFA.fields if field.editable} | {"pfaId", "organization"}

    async with connected(sim.url, **settings(variant)) as pems:
        for key, line in known(sim, "RIO").items():
            held = await pems.hold(key)
            assert held is not None
            assert held.document == {name: line[name] for name in editable}
            assert held.token == str(sim.recordid("RIO", key))


NEW: dict[str, Any] = {
    "category": "Cranes", "source": "Rental", "dor": "BEO", "monthlyRate": Decimal("1234.50"), "equipment": "CRN-1",
    "forecastStart": "2024-06-07", "forecastEnd": "2024-12-31", "isActualized": True, "isDiscontinued": False,
}  # fmt: skip


@EACH
async def test_a_new_line_may_be_the_first_thing_and_is_found_again(sim: Simulator, variant: Variant) -> None:
    sim.writing = writing(variant)
    async with connected(sim.url, **settings(variant)) as pems:
        write = Write(op="insert", key=None, fields=NEW, token="vanguard-7")
        key = await pems.write(write, None)

        assert known(sim, "RIO")[key].items() >= NEW.items()
        assert await pems.find_created(write, NOW) == Created(certain=(key,))
        assert sim.spare("RIO", key)["udfchar01"] == "vanguard-7"
        row = await pems.read(key)
        assert isinstance(row, Row)
        assert row.document.items() >= NEW.items()
    async with connected(sim.url, **settings(variant) | {"token": None}) as pems:
        assert (await pems.find_created(write, NOW)).certain == (key,)


@EACH
async def test_a_line_is_deleted_and_what_is_gone_or_changed_is_told(sim: Simulator, variant: Variant) -> None:
    sim.writing = writing(variant)
    async with connected(sim.url, **settings(variant)) as pems:
        stale = await pems.hold(FIRST)
        sim.edit("RIO", FIRST, {"areaSilo": "Theirs"})
        for write in changes(FIRST):
            with pytest.raises(Stale, match="modified by another user"):
                await pems.write(write, stale)
        assert known(sim, "RIO")[FIRST]["areaSilo"] == "Theirs"

        held = await pems.hold(FIRST)
        assert await pems.write(Write(op="delete", key=FIRST, fields={}), held) == FIRST
        assert sim.record("RIO", FIRST) is None
        assert await absent(pems, FIRST, held)


def changes(key: str) -> list[Write]:
    return [Write(op="update", key=key, fields={"areaSilo": "Mine"}), Write(op="delete", key=key, fields={})]


async def absent(pems: Pems, key: str, held: Held | None) -> bool:
    """Whether every way of asking says that there is no such line."""
    for write in changes(key):
        with pytest.raises(Stale, match="Record not found"):
            await pems.write(write, held)
    return await pems.hold(key) is None and await pems.read(key) is None and not await pems.exists(key)


# --- settings that do not fit


@pytest.mark.parametrize("dates", ["us", "eu"])
async def test_days_in_an_order_that_is_not_known_are_refused_or_right(sim: Simulator, dates: Any) -> None:
    sim.writing = Writing(dates=dates, localizes=False)

    async with connected(sim.url) as pems:
        pages = await pull(pems)

    lines, read = known(sim, "RIO"), documents(pages)
    assert {key: lines[key] for key in read} == read
    reasons = {broken.key: broken.reasons for page in pages for broken in page.broken}
    assert reasons.keys() == lines.keys() - read.keys()
    assert FIRST in reasons
    assert {reason.code for found in reasons.values() for reason in found} == {"AMBIGUOUS_VALUE"}


@pytest.mark.parametrize("numbers", get_args(Numbers))
async def test_numbers_whose_sign_is_not_known_are_refused_or_right(sim: Simulator, numbers: Any) -> None:
    sim.writing = Writing(numbers=numbers, localizes=False)

    async with connected(sim.url) as pems:
        pages = await pull(pems)

    lines, read = known(sim, "RIO"), documents(pages)
    assert {key: lines[key] for key in read} == read
    reasons = {broken.key: broken.reasons for page in pages for broken in page.broken}
    assert reasons.keys() == lines.keys() - read.keys()
    assert reasons
    assert {(reason.code, reason.field) for found in reasons.values() for reason in found} <= {
        ("AMBIGUOUS_VALUE", "monthlyRate"), ("AMBIGUOUS_VALUE", "purchasePrice")
    }  # fmt: skip


@pytest.mark.parametrize(("year", "screen_numbers", "screen_flags"), [("calendar", "bare", "-1/0")])
async def test_a_setting_that_does_not_fit_is_refused_and_nothing_is_written(
    sim: Simulator, year: Any, screen_numbers: Any, screen_flags: Any
) -> None:
    sim.writing = Writing(year=year, screen_numbers=screen_numbers, screen_flags=screen_flags)
    before = known(sim, "RIO")[FIRST]

    async with connected(sim.url, writes=Writes(year="epoch", numbers="object", flags="Yes/No")) as pems:
        for change in ({"forecastStart": "2024-03-04"}, {"monthlyRate": 7}, {"isActualized": False}):
            with pytest.raises(Refused, match="is not a valid"):
                await update(pems, FIRST, **change)

    assert known(sim, "RIO")[FIRST] == before


def test_every_pair_of_values_is_met() -> None:
    met = set().union(*map(pairs, VARIANTS))
    for one, other in combinations(AXES, 2):
        for left in AXES[one]:
            for right in AXES[other]:
                assert (((one, left), (other, right)) in met) == fits({one: left, other: right})


def test_every_switch_of_the_simulator_is_among_them() -> None:
    """But for columns that are missing, which break every line."""
    assert {*Writing.__struct_fields__} - {"without"} == AXES.keys() - {"localize", "told", "sends"}
