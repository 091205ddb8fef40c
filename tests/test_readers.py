"""The readers of sql/schema/vanguard.sql: a typed value out of a document, or NULL, on every server alike."""

import random
import re
import unicodedata
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from app.base import exact_json
from app.contracts import PFA, Contract
from app.contracts.values import MAX_INTEGER, is_date, normalize_datetime, read_datetime, write_datetime
from tests.support.world import FLEET

READERS = (
    "as_text", "as_long_text", "as_number", "as_integer", "as_boolean", "has_date", "as_date", "has_datetime",
    "as_datetime",
)  # fmt: skip
READ = "SELECT {} FROM unnest($1::text[]) WITH ORDINALITY AS d (document, place) ORDER BY place"
# As JSON texts: what upstream may send, or a person write.
TEXTS = (
    "",
    " ",
    "a",
    "true",
    "null",
    "5",
    "é" * 250,
    "é" * 250 + "x",
    "x" * 500,
    "x" * 501,
    "\x1f",
    "\U0001d7d8",
    '"',
    "\\",
    "a\nb",
)
DAYS = (
    "2026-01-28", "0001-01-01", "9999-12-31", "2024-02-29", "2000-02-29", "0004-02-29", "2026-12-31", "1582-10-10",
    "1900-02-29", "2100-02-29", "2025-02-29", "2026-02-30", "2026-04-31", "2026-00-10", "2026-13-01", "2026-01-00",
    "2026-01-32", "0000-01-01", "10000-01-01", "12026-01-01", "02026-01-1", "2026-1-1", "2026-1-28", "26-01-28",
    "2026-01-28 ", " 2026-01-28", " 026-01-28", "2026-01-28\n", "\t2026-01-28", "2026-01-+1", "+026-01-28",
    "-026-01-28", "-001-01-01", "2026--1-28", "2026-01--8", "2026/01/28", "20260128", "2026-01-28T00:00", "2026-01-28Z",
    "2026-01-28 BC", "0001-01-01 BC", "today", "infinity", "-infinity", "epoch", "January 8", "2026-Jan-28",
    # Digits of other scripts, full-width ones, another hyphen, a space without width.
    "\uff12\uff10\uff12\uff16-01-28", "2026-01-2\uff18", "\u0662\u0660\u0662\u0666-01-28", "2026\u201001\u201028",
    "2026-01-28\u200b", "é026-01-28", "2026-01-2e", "2026-0x-01",
    "9999-12-32", "9999-99-99", "0000-00-00", "2026-02-29", "1-01-2026", "28-01-2026", "2026-010-8", "2026-01-028",
)  # fmt: skip
MOMENTS = (
    "2026-01-28T08:30:00Z", "2026-01-28T08:30:00.5Z", "2026-01-28T08:30:00.500000Z", "2026-01-28T08:30:00.123456Z",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2024-02-29T23:59:59Z", "2000-02-29T00:00:00Z",
    "1900-02-29T00:00:00Z", "2025-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "0000-01-01T00:00:00Z",
    "0000-02-29T00:00:00Z", "2026-01-28T24:00:00Z", "2026-01-28T23:60:00Z", "2026-12-31T23:59:60Z",
    "2026-01-28T08:30:00.1234567Z", "2026-01-28T08:30:00.Z", "2026-01-28T08:30Z", "2026-01-28 08:30:00Z",
    "2026-01-28t08:30:00z", "2026-01-28T08:30:00", "2026-01-28T08:30:00+00:00", "2026-01-28T08:30:00+01:00",
    "2026-01-28T08:30:00Z\n", " 2026-01-28T08:30:00Z", "2026-01-28T08:30:00ZZ", "2026-01-28T8:30:00Z",
    "12026-01-28T08:30:00Z", "-001-01-28T08:30:00Z", "2026-01-28T08:30:0\uff10Z", "\u0662026-01-28T08:30:00Z",
    "2026-W05-3T08:30:00Z", "2026-028T08:30:00Z", "20260128T083000Z", "2026-01-28T08:30:00,5Z",
    "2026-01-28T08:30:00.5.5Z", "2026-01-28T08:30:00.+5Z", "2026-01-28T08:30:00.1e5Z", "infinity", "epoch", "now",
)  # fmt: skip
NUMBERS = (
    "0", "-0", "0.0", "5", "-5", "1.5", "-1.50", "1e2", "1E+2", "1e-2", "1e29", "999999999999999999999999999999",
    "1e30", "-1e30", "999999999999999999999999999999.99", "0.00000000000000000001", "0.000000000000000000001",
    "1.000000000000000000000", "12345678901234567890", "123456789012345678901", "-1234567890123456789.5", "1e-20",
    "1e-21", "1e1000", "-1e1000", "9007199254740991", "9007199254740992", "-9007199254740991", "-9007199254740992",
    "9007199254740991.0", "0.5e1", "3.0",
)  # fmt: skip
OTHERS = ("true", "false", "null", "[]", "{}", '["2026-01-28"]', "[5]", "[true]", '{"f": 5}', '[["2026-01-28"]]')
# Every character that Python knows, but for what no text of JSON holds here.
CHARACTERS = [chr(n) for n in range(1, 0x110000) if unicodedata.category(chr(n)) not in ("Cn", "Cs")]
# Those whose fold depends on what one knows: sigmas, sharp and long s, dotted and dotless i, marks, ligatures, signs
# that are letters, letters that are two, syllables in parts.
TRICKY = (
    "ςΣsS\u017fßẞi\u0131Iİ\u0307\u0301\u0308\u0323\u0327\u0345eEéÉ\u1e17µμﬁﬀﬆ\u212aKk\u212bÅåŉǰΐΰᾳᾼῼὒϑ"
    "ꭰᎠᏸᏰᲀвꙋ각\u1100\u1161\u11a8 .,'-\u200d\u00ad\u2013€aω"
)
# With those that are folded without a normal form, and their neighbours.
EUROPEAN = [letter for letter in CHARACTERS if letter < "\u0530" or "\u2000" < letter < "\u20d0"]
KNOWN = "SELECT c FROM unnest($1::text[]) AS c WHERE unicode_assigned(c)"
FOLD = "SELECT vanguard.fold(t) FROM unnest($1::text[]) WITH ORDINALITY AS u (t, place) ORDER BY place"
COLLATIONS = "SELECT collname::text FROM pg_collation WHERE collname IN ('pg_c_utf8', 'und-x-icu', 'C.utf8') ORDER BY 1"
ODD = [*(exact_json.encode(text).decode() for text in (*TEXTS, *DAYS, *MOMENTS)), *NUMBERS, *OTHERS]


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """To a database with the readers; a style of dates that reads the day first changes nothing."""
    opened = await asyncpg.connect(database_url, server_settings={"datestyle": "SQL, DMY", "timezone": "Asia/Tokyo"})
    yield opened
    await opened.close()


async def read(connection: "asyncpg.Connection[Any]", reader: str, values: Sequence[str]) -> list[Any]:
    """What the reader makes of the field f with each of the values, given as JSON."""
    documents = [f'{{"e": 1, "f": {value}, "ff": "2026-01-01"}}' for value in values]
    rows = await connection.fetch(READ.format(f"vanguard.{reader}(document::jsonb, 'f')"), documents)
    return [row[0] for row in rows]


def expected(reader: str, value: str) -> Any:
    """What the documents promise, in Python's own terms."""
    found = exact_json.decode(value.encode())
    number = Decimal(value) if re.fullmatch(r"-?\d.*", value) else None
    match reader:
        case "as_text":
            return found if isinstance(found, str) and len(found.encode()) <= 500 else None
        case "as_long_text":
            return found if isinstance(found, str) else None
        case "as_boolean":
            return found if isinstance(found, bool) else None
        case "has_date":
            return is_date(found)
        case "as_date":
            return date.fromisoformat(found) if is_date(found) else None
        case "has_datetime":
            return moment(found) is not None
        case "as_datetime":
            return moment(found)
        case "as_number":
            fits = number is not None and number.copy_abs() < Decimal("1e30") and decimals(number) <= 20
            return number if fits else None
        case _:
            whole = number is not None and number.copy_abs() <= MAX_INTEGER and number == number.to_integral_value()
            return int(number) if whole and number is not None else None


def moment(value: Any) -> datetime | None:
    """The moment in UTC, by its parts."""
    parts = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?Z", str(value), re.ASCII)
    if not isinstance(value, str) or parts is None:
        return None
    try:
        year, month, day, hour, minute, second = map(int, parts.groups()[:6])
        return datetime(year, month, day, hour, minute, second, int((parts[7] or "").ljust(6, "0")), UTC)
    except ValueError:
        return None


def decimals(number: Decimal) -> int:
    """How many digits stand behind the point."""
    return max(0, -int(number.as_tuple().exponent))


@pytest.mark.parametrize("reader", READERS)
async def test_an_odd_value_is_read_or_is_null(connection: "asyncpg.Connection[Any]", reader: str) -> None:
    assert dict(zip(ODD, await read(connection, reader, ODD), strict=True)) == {
        value: expected(reader, value) for value in ODD
    }


@pytest.mark.parametrize("reader", READERS)
async def test_a_field_that_is_not_there_is_null(connection: "asyncpg.Connection[Any]", reader: str) -> None:
    for document in ("{}", '{"g": "2026-01-28"}', '{"f": null}'):
        found = await connection.fetchval(f"SELECT vanguard.{reader}($1::text::jsonb, 'f')", document)
        assert found is (False if reader.startswith("has_") else None)
    found = await connection.fetchval(f"SELECT vanguard.{reader}(NULL, 'f')")
    assert found is (False if reader.startswith("has_") else None)


async def test_every_day_of_the_calendar_is_read(connection: "asyncpg.Connection[Any]") -> None:
    """All 31 numbers of every month, from the first years to the last."""
    years = [1, 2, 3, 4, 99, 100, 101, 400, 1582, 1899, 1900, 1904, 1999, 2000, 2001, 2023, 2024, 2100, 9996, 9999]
    texts = [f"{year:04}-{month:02}-{day:02}" for year in years for month in range(14) for day in range(33)]
    found = await read(connection, "as_date", [f'"{text}"' for text in texts])
    assert found == [date.fromisoformat(text) if is_date(text) else None for text in texts]
    assert sum(day is not None for day in found) == sum(
        (date(year, 12, 31) - date(year, 1, 1)).days + 1 for year in years
    )


async def test_what_is_nearly_a_day_is_none(connection: "asyncpg.Connection[Any]") -> None:
    """Days with a character changed, put in, taken out or doubled."""
    pick = random.Random(4711)
    texts = []
    for _ in range(20_000):
        text = list((date(1, 1, 1) + timedelta(pick.randrange(3_652_059))).isoformat())
        for _ in range(pick.randint(0, 2)):
            place = pick.randrange(len(text) + 1)
            text[place : place + pick.randint(0, 1)] = pick.choice(["", *"0123456789-+ /.:TZ,eBC\u00a0\t\uff10"])
        texts.append("".join(text))
    found = await read(connection, "as_date", [exact_json.encode(text).decode() for text in texts])
    assert found == [date.fromisoformat(text) if is_date(text) else None for text in texts]


async def test_every_moment_is_read_and_written_as_in_python(connection: "asyncpg.Connection[Any]") -> None:
    """Whatever the time zone of the session: days of all months, fractions of each length, and what is nearly one."""
    pick = random.Random(4711)
    texts = []
    for _ in range(20_000):
        day = (
            f"{pick.choice([0, 1, 4, 1900, 2000, 2024, 2026, 9999]):04}-{pick.randrange(14):02}-{pick.randrange(33):02}"
        )
        time = f"{pick.choice([0, 1, 12, 23, 24]):02}:{pick.choice([0, 59, 60]):02}:{pick.choice([0, 30, 59, 60]):02}"
        fraction = pick.choice(["", "", f".{pick.choice('059')}", f".{pick.randrange(10**6):06}", ".1234567"])
        text = list(f"{day}T{time}{fraction}Z")
        if pick.random() < 0.2:
            text[pick.randrange(len(text))] = pick.choice(["", *"0123456789-+ /.:TZtz,e\u00a0\t\uff10"])
        texts.append("".join(text))
    given = [exact_json.encode(text).decode() for text in texts]
    found = await read(connection, "as_datetime", given)
    assert found == [read_datetime(text) for text in texts] == [moment(text) for text in texts]
    assert sum(value is not None for value in found) > 2_000
    written = await connection.fetch(
        "SELECT vanguard.datetime_text(vanguard.as_datetime(jsonb_build_object('f', f::jsonb), 'f')) "
        "FROM unnest($1::text[]) WITH ORDINALITY AS d (f, place) ORDER BY place", given,
    )  # fmt: skip
    assert [row[0] for row in written] == [None if value is None else write_datetime(value) for value in found]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("2026-01-28T08:30:00Z", "2026-01-28T08:30:00Z"),
        ("2026-01-28T08:30:00.000Z", "2026-01-28T08:30:00Z"),
        ("2026-01-28t08:30:00.120z", "2026-01-28T08:30:00.12Z"),
        ("2026-01-28 08:30:00+01:00", "2026-01-28T07:30:00Z"),
        ("2026-01-01T00:30:00+05:45", "2025-12-31T18:45:00Z"),
        ("2026-01-28T08:30:00-00:00", "2026-01-28T08:30:00Z"),
        ("0001-01-01T00:00:00-23:59", "0001-01-01T23:59:00Z"),
        ("0001-01-01T00:00:00+00:01", None),
        ("9999-12-31T23:59:59.999999-00:01", None),
        ("2016-12-31T23:59:60Z", None),
        ("2026-01-28T24:00:00Z", None),
        ("2026-01-28T08:30:00", None),
        ("2026-01-28T08:30:00.1234567Z", None),
        ("2026-01-28T08:30:00+24:00", None),
        ("2026-01-28T08:30:00+01", None),
        ("2026-01-28T08:30:00+0100", None),
        ("2026-01-28  08:30:00Z", None),
        ("2026-01-28", None),
        ("2026-02-30T08:30:00Z", None),
        ("2026-01-28T08:30:0\uff10Z", None),
        ("", None),
    ],
)  # fmt: skip
def test_a_moment_with_an_offset_has_one_text(text: str, canonical: str | None) -> None:
    assert normalize_datetime(text) == canonical
    if canonical is not None:
        assert normalize_datetime(canonical) == canonical
        assert moment(canonical) is not None


@pytest.mark.parametrize("contract", [PFA, FLEET], ids=lambda contract: contract.name)
async def test_what_a_delta_touches_is_the_same_in_python_and_sql(
    connection: "asyncpg.Connection[Any]", contract: Contract
) -> None:
    """A save is told by Python what a commit asks SQL."""
    names = [field.name for field in contract.fields]
    for few in [[], *([name] for name in names), names, names[::2], names[1::3]]:
        delta, groups = (exact_json.encode(each).decode() for each in (dict.fromkeys(few), contract.cell_map))
        found = await connection.fetchval("SELECT vanguard.touched($1::text::jsonb, $2::text::jsonb)", delta, groups)
        assert sorted(contract.touched(few)) == sorted(exact_json.decode(found)), few


async def test_the_readers_and_formulae_of_columns_are_inlined(connection: "asyncpg.Connection[Any]") -> None:
    """So that a generated column calls built-in functions alone: a call of one in SQL costs more than it computes."""
    for contract in (PFA, FLEET):
        for column in contract.columns:
            rows = await connection.fetch(
                f"EXPLAIN (VERBOSE, COSTS OFF) SELECT {column.of('data')} FROM {contract.schema}.mirror"
            )
            output = next(row[0] for row in rows if "Output:" in row[0])
            assert not re.search(rf"\b(vanguard|{contract.schema})\.\w+\(", output), f"{column.field}: {output[:200]}"


# -- text without regard to case --------------------------------------------------------------------------------------


def fold(text: str) -> str:
    """Unicode's canonical caseless form (D145), composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def sentences() -> list[str]:
    """Texts of few characters: such that matter to each other, European ones, some of any."""
    pick = random.Random(4711)
    texts = []
    for _ in range(60_000):
        usual = pick.choice((TRICKY, EUROPEAN, CHARACTERS))
        others = pick.choice((usual, TRICKY))
        texts.append("".join(pick.choice(pick.choice((usual, others))) for _ in range(pick.randint(1, 12))))
    return texts


async def ways(connection: "asyncpg.Connection[Any]") -> AsyncIterator[str]:
    """The function as this server has it; then as servers without casefold(), by each collation that is here."""
    definition = await connection.fetchval("SELECT pg_get_functiondef('vanguard.fold(text)'::regprocedure)")
    collations = [row[0] for row in await connection.fetch(COLLATIONS)]
    if not collations:
        pytest.skip("this server has no collation that knows Unicode, so that it folds as its own one does")
    yield "as it is"
    asked = "current_setting('server_version_num')::integer >= 180000"
    assert asked in definition
    for name in collations:
        older, changed = re.subn(r"lower\(folded COLLATE [^)]+\)", f'lower(folded COLLATE "{name}")', definition)
        assert changed == 1
        await connection.execute(older.replace(asked, "FALSE"))
        yield name


async def different(connection: "asyncpg.Connection[Any]", texts: list[str]) -> list[tuple[str, str]]:
    """Those that the server folds otherwise than Python, with what it makes of them."""
    rows = await connection.fetch(FOLD, texts)
    return [(ascii(text), ascii(row[0])) for text, row in zip(texts, rows, strict=True) if row[0] != fold(text)]


async def test_every_character_is_folded_as_python_folds_it(connection: "asyncpg.Connection[Any]") -> None:
    """All that Python knows and the server: since PostgreSQL 17 it says what it knows. The older ones know Unicode 14
    at least, after which no letter with case came before 16.
    """
    known = CHARACTERS
    if connection.get_server_version().major >= 17:
        known = [row[0] for row in await connection.fetch(KNOWN, CHARACTERS)]
    assert len(known) > 280_000
    async for way in ways(connection):
        assert await different(connection, known) == [], way


async def test_texts_are_folded_as_python_folds_them(connection: "asyncpg.Connection[Any]") -> None:
    texts = sentences()
    async for way in ways(connection):
        assert await different(connection, texts) == [], way


async def test_what_is_folded_stays_as_it_is(connection: "asyncpg.Connection[Any]") -> None:
    texts = [fold(text) for text in (*CHARACTERS, *sentences())]
    assert [row[0] for row in await connection.fetch(FOLD, texts)] == texts


async def test_folded_text_is_compared_by_its_bytes(connection: "asyncpg.Connection[Any]") -> None:
    """In conditions and in the column that is searched, whatever collation the database has."""
    for text in ("search", "vanguard.fold(f_category)", "vanguard.fold(row_key)"):
        read = f"SELECT collation for ({text}) FROM (SELECT) AS one LEFT JOIN pfa.mirror ON TRUE"
        assert await connection.fetchval(read) == '"C"', text


MATCHES = "SELECT vanguard.fold($1) LIKE vanguard.search_pattern($2)"


async def test_a_pattern_means_its_characters(connection: "asyncpg.Connection[Any]") -> None:
    """What LIKE reads otherwise is escaped after folding."""
    for word in ("100%", "a_b", "\\", "%", "\\%", "ẞ_", "ΟΔΟΣ", "e\u0301", "\ufb01"):
        for text, finds in ((word, True), (f"x{word.casefold()}x", True), ("", False), ("100", False), ("axb", False)):
            assert await connection.fetchval(MATCHES, text, word) is finds, (text, word)


async def test_a_letter_with_a_mark_is_another_letter(connection: "asyncpg.Connection[Any]") -> None:
    """Neither the letter alone finds it nor the mark, however it is written."""
    for text in ("é", "e\u0301", "É"):
        for word, finds in (("e", False), ("\u0301", False), ("é", True), ("E\u0301", True)):
            assert await connection.fetchval(MATCHES, text, word) is finds, (text, word)
