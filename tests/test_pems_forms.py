"""Values of the user-defined screen: read in every form, and written in the one that was read."""

import time
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, cast, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.base import exact_json
from app.contracts.shape import FieldType
from app.simulator import Writing
from app.simulator.screen import digits_of, moment_of
from app.upstream.pems.config import Locale, Writes
from app.upstream.pems.forms import Forms
from app.upstream.pems.values import Unreadable

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DECEMBER = {
    "YEAR": 1609477200000, "MONTH": 12, "DAY": 21, "HOUR": 0, "MINUTE": 0, "SECOND": 0, "SUBSECOND": 0,
    "TIMEZONE": "-0500", "qualifier": "OTHER",
}  # fmt: skip
PRICE = {
    "VALUE": 382550, "NUMOFDEC": 2, "SIGN": "+", "CURRENCY": None, "DRCR": None, "UOM": "default", "qualifier": "OTHER",
}  # fmt: skip
WORDS = ["Y/N", "Yes/No", "+/-", "1/0", "-1/0", "true/false"]


def forms(locale: Locale | None = None, **writes: Any) -> Forms:
    return Forms(Writes(**writes), locale or Locale())


def moment(day: date, offset: timedelta, *, calendar: bool = False) -> dict[str, Any]:
    """A day as PEMS says it where the clock is so far ahead of UTC."""
    beginning = datetime(day.year, 1, 1, tzinfo=UTC) - EPOCH - offset
    return DECEMBER | {
        "YEAR": day.year if calendar else beginning // timedelta(milliseconds=1),
        "MONTH": day.month,
        "DAY": day.day,
        "TIMEZONE": f"{datetime(2000, 1, 1, tzinfo=timezone(offset)):%z}",
    }


def read(kind: FieldType, value: dict[str, Any], using: Forms | None = None) -> Any:
    return (using or forms()).read(kind, value)


def json(value: Any) -> bytes:
    return exact_json.encode(value)


OFFSETS = st.integers(-12 * 2, 14 * 2).map(lambda halves: timedelta(minutes=30 * halves))
DAYS = st.dates(date(2, 1, 1), date(9998, 12, 31)) | st.sampled_from(
    [date(year, month, day) for year in (1, 1900, 1969, 1970, 1971, 2024, 9999) for month, day in ((1, 1), (12, 31))]
)


# --- every example of the page reads, and is written as it was read


EXAMPLES: dict[str, tuple[FieldType, dict[str, Any], Any]] = {
    "date of an epoch": ("date", {"DATETIMEDATA": DECEMBER}, "2021-12-21"),
    "date of a calendar": ("date", {"DATETIMEDATA": DECEMBER | {"YEAR": 2021}}, "2021-12-21"),
    "date of texts": (
        "date", {"DATETIMEDATA": {name: str(part) for name, part in DECEMBER.items()}}, "2021-12-21"
    ),
    "date of few members": ("date", {"DATETIMEDATA": {"YEAR": 2021, "MONTH": 12, "DAY": 21}}, "2021-12-21"),
    "date before 1970": ("date", {"DATETIMEDATA": DECEMBER | {"YEAR": -31518000000}}, "1969-12-21"),
    "date of 1970": ("date", {"DATETIMEDATA": DECEMBER | {"YEAR": 18000000}}, "1970-12-21"),
    "date of 1970 in UTC": ("date", {"DATETIMEDATA": DECEMBER | {"YEAR": 0, "TIMEZONE": "+0000"}}, "1970-12-21"),
    "date of year zero": ("date", {"DATETIMEDATA": DECEMBER | {"YEAR": 0}}, "1970-12-21"),
    "no date": ("date", {"DATETIMEDATA": None}, None),
    "number": ("number", {"NUMERICDATA": PRICE}, Decimal("3825.50")),
    "negative number": ("number", {"NUMERICDATA": PRICE | {"SIGN": "-"}}, Decimal("-3825.50")),
    "whole number": ("number", {"NUMERICDATA": PRICE | {"NUMOFDEC": 0}}, 382550),
    "zero": ("number", {"NUMERICDATA": PRICE | {"VALUE": 0}}, Decimal("0.00")),
    "number of texts": (
        "number", {"NUMERICDATA": PRICE | {"VALUE": "382550", "NUMOFDEC": "2"}}, Decimal("3825.50")
    ),
    "number of few members": ("number", {"NUMERICDATA": {"VALUE": 7}}, 7),
    "negative VALUE": ("number", {"NUMERICDATA": {"VALUE": -382550, "NUMOFDEC": 2}}, Decimal("-3825.50")),
    "negative VALUE of text": ("number", {"NUMERICDATA": {"VALUE": "-7", "SIGN": None}}, -7),
    "no SIGN": ("number", {"NUMERICDATA": {"VALUE": 382550, "NUMOFDEC": 2, "SIGN": None}}, Decimal("3825.50")),
    "no NUMOFDEC": ("number", {"NUMERICDATA": {"VALUE": 7, "NUMOFDEC": None, "SIGN": "-"}}, -7),
    "empty NUMOFDEC": ("number", {"NUMERICDATA": {"VALUE": "7", "NUMOFDEC": "", "SIGN": ""}}, 7),
    "long number": (
        "number", {"NUMERICDATA": PRICE | {"VALUE": 10**50 + 1, "NUMOFDEC": 20}}, Decimal(f"1{'0' * 30}.{'0' * 19}1")
    ),
    "bare number": ("number", {"NUMERICDATA": Decimal("3825.50")}, Decimal("3825.50")),
    "bare whole number": ("number", {"NUMERICDATA": 0}, 0),
    "bare negative number": ("number", {"NUMERICDATA": Decimal("-0.10")}, Decimal("-0.10")),
    "bare text": ("number", {"NUMERICDATA": "3825.50"}, Decimal("3825.50")),
    "text": ("number", {"TEXTDATA": "3825.50"}, Decimal("3825.50")),
    "text with a comma": ("number", {"TEXTDATA": "3825,50"}, Decimal("3825.50")),
    "no number": ("number", {"NUMERICDATA": None}, None),
    "integer": ("integer", {"NUMERICDATA": PRICE | {"VALUE": 300}}, 3),
    "words": ("text", {"TEXTDATA": " Crane "}, " Crane "),
    "no words": ("text", {"TEXTDATA": None}, None),
    "choice": ("enum", {"TEXTDATA": "Rental"}, "Rental"),
    **{
        f"flag {word!r}": ("boolean", {"TEXTDATA": word}, flag)
        for words in [*WORDS, "YES/NO", "yes/no", "y/n", "True/False", "TRUE/FALSE"]
        for word, flag in zip(words.split("/"), (True, False), strict=True)
    },
    "flag of JSON": ("boolean", {"TEXTDATA": True}, True),
    "flag of JSON, false": ("boolean", {"TEXTDATA": False}, False),
    "flag of a number": ("boolean", {"TEXTDATA": -1}, True),
    "flag of a number, 1": ("boolean", {"TEXTDATA": 1}, True),
    "flag of a number, 0": ("boolean", {"TEXTDATA": 0}, False),
    "no flag": ("boolean", {"TEXTDATA": None}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_was_read_is_what_is_written(name: str) -> None:
    kind, shown, value = EXAMPLES[name]
    screen = forms()

    found = screen.read(kind, shown)

    assert (found, type(found), str(found)) == (value, type(value), str(value))
    assert json(screen.write(kind, found, shown)) == json(shown)


@pytest.mark.parametrize("name", EXAMPLES)
def test_null_empties_a_field_in_the_member_that_it_has(name: str) -> None:
    kind, shown, _ = EXAMPLES[name]

    assert forms().write(kind, None, shown) == dict.fromkeys(shown)


@pytest.mark.parametrize("member", ["TEXTDATA", "NUMERICDATA", "DATETIMEDATA"])
@pytest.mark.parametrize("kind", get_args(FieldType))
def test_a_field_that_shows_nothing_is_null(kind: FieldType, member: str) -> None:
    for shown in ({}, {member: None}, {member: ""} if member == "TEXTDATA" else {}):
        assert forms().read(kind, shown) is None


# --- dates


@given(day=DAYS, offset=OFFSETS, calendar=st.booleans(), text=st.booleans())
def test_a_day_is_read_and_written_in_every_zone(day: date, offset: timedelta, calendar: bool, text: bool) -> None:
    """YEAR is the beginning of the year in the zone, or the year; the parts are numbers or texts."""
    assume(calendar or 1 < day.year < 9999)  # their beginnings are in no calendar everywhere
    shown = moment(day, offset, calendar=calendar)
    shown = {name: str(part) for name, part in shown.items()} if text else shown
    screen = forms()

    assert screen.read("date", {"DATETIMEDATA": shown}) == day.isoformat()
    assert json(screen.write("date", day.isoformat(), {"DATETIMEDATA": shown})) == json({"DATETIMEDATA": shown})


@given(old=st.dates(date(2, 1, 1), date(9998, 12, 31)), new=DAYS, offset=OFFSETS, calendar=st.booleans())
def test_another_day_is_written_in_the_zone_of_the_one_that_was_read(
    old: date, new: date, offset: timedelta, calendar: bool
) -> None:
    screen = forms()

    written = screen.write("date", new.isoformat(), {"DATETIMEDATA": moment(old, offset, calendar=calendar)})

    assert written == {"DATETIMEDATA": moment(new, offset, calendar=calendar)}


@given(
    day=st.dates(date(1950, 1, 1), date(2100, 12, 31)),
    zone=st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"]),
    year=st.sampled_from(["epoch", "calendar"]),
)
def test_what_a_server_shows_in_summer_and_winter_reads(day: date, zone: str, year: Any) -> None:
    """The offset is that of the day, not of the beginning of its year."""
    shown = {"DATETIMEDATA": moment_of(day, Writing(zone=zone, year=year))}
    screen = forms()

    assert screen.read("date", shown) == day.isoformat()
    assert json(screen.write("date", day.isoformat(), shown)) == json(shown)


@given(st.integers(-2_000, 5_000), st.integers(16, 365 * 24 - 16))
def test_an_epoch_that_begins_no_year_anywhere_is_refused(years: int, hours: int) -> None:
    year = 1970 + years // 2
    shifted = datetime(year, 1, 1, tzinfo=UTC) - EPOCH + timedelta(hours=hours)
    with pytest.raises(Unreadable, match="neither a year nor the beginning of one"):
        read("date", {"DATETIMEDATA": DECEMBER | {"YEAR": shifted // timedelta(milliseconds=1)}})


def test_the_epoch_of_the_day_itself_is_refused() -> None:
    """As an earlier version of this adapter wrote it."""
    with pytest.raises(Unreadable):
        read("date", {"DATETIMEDATA": DECEMBER | {"YEAR": 1640062800000}})


@pytest.mark.parametrize(
    "parts",
    [
        {"YEAR": "x"}, {"YEAR": None}, {"YEAR": True}, {"YEAR": Decimal("2021.5")}, {"YEAR": "2021.0"},
        {"YEAR": 10**40}, {"YEAR": -(10**40)}, {"YEAR": Decimal("1E+99999999")}, {"YEAR": "9" * 5000},
        {"MONTH": 13}, {"MONTH": 0}, {"MONTH": None}, {"MONTH": Decimal("1.5")}, {"MONTH": "JAN"}, {"DAY": 32},
        {"DAY": 0}, {"DAY": True}, {"MONTH": 2, "DAY": 29}, {"MONTH": 11, "DAY": 31}, {"DAY": [1]}, {"DAY": {}},
    ],
    ids=str,
)  # fmt: skip
def test_a_day_that_there_is_not_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        read("date", {"DATETIMEDATA": DECEMBER | parts})


@pytest.mark.parametrize("member", sorted({"YEAR", "MONTH", "DAY"}))
def test_a_day_needs_its_three_parts(member: str) -> None:
    with pytest.raises(Unreadable):
        read("date", {"DATETIMEDATA": {name: part for name, part in DECEMBER.items() if name != member}})


@pytest.mark.parametrize("moment", [7, "2021-12-21", [], True, {}, "", [DECEMBER]])
def test_what_is_no_moment_is_no_date(moment: Any) -> None:
    with pytest.raises(Unreadable):
        read("date", {"DATETIMEDATA": moment})


def test_the_hour_that_was_read_does_not_move_the_day() -> None:
    late = DECEMBER | {"HOUR": 23, "MINUTE": 59, "SECOND": 59, "SUBSECOND": 999}
    screen = forms()

    assert screen.read("date", {"DATETIMEDATA": late}) == "2021-12-21"
    written = screen.write("date", "2022-01-01", {"DATETIMEDATA": late})
    assert written == {"DATETIMEDATA": DECEMBER | {"YEAR": 1641013200000, "MONTH": 1, "DAY": 1}}


@pytest.mark.parametrize(("setting", "year"), [("epoch", 1609477200000), ("calendar", 2021), (None, None)])
@pytest.mark.parametrize("shown", [1577854800000, 2020])
def test_a_setting_says_how_the_year_is_written(setting: Any, year: Any, shown: int) -> None:
    written = forms(year=setting).write("date", "2021-12-21", {"DATETIMEDATA": DECEMBER | {"YEAR": shown}})

    assert written["DATETIMEDATA"]["YEAR"] == (year or {2020: 2021}.get(shown, 1609477200000))


@pytest.mark.parametrize(
    ("zone", "day", "year", "offset"),
    [
        (None, "2021-12-21", 1609459200000, "+0000"),
        ("America/New_York", "2021-12-21", 1609477200000, "-0500"),
        ("America/New_York", "2021-07-01", 1609477200000, "-0500"),
        ("Asia/Kolkata", "2021-12-21", 1609439400000, "+0530"),
        ("Pacific/Auckland", "2021-07-01", 1609412400000, "+1300"),
        ("America/New_York", "1970-01-01", 18000000, "-0500"),
        ("America/New_York", "1969-12-31", -31518000000, "-0500"),
    ],
)
def test_where_the_screen_has_shown_no_date_yet_the_documented_form_is_written(
    zone: str | None, day: str, year: int, offset: str
) -> None:
    (written,) = forms(Locale(zone=zone)).write("date", day, None).values()

    _, month, number = map(int, day.split("-"))
    assert written == DECEMBER | {"YEAR": year, "MONTH": month, "DAY": number, "TIMEZONE": offset}
    assert read("date", {"DATETIMEDATA": written}) == day


@pytest.mark.parametrize("zone", [None, "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("year", ["epoch", "calendar", None])
@given(day=DAYS)
def test_a_first_day_reads_back(zone: str | None, year: Any, day: date) -> None:
    written = forms(Locale(zone=zone), year=year).write("date", day.isoformat(), {})

    parts = written["DATETIMEDATA"]
    assert (parts["MONTH"], parts["DAY"], parts["HOUR"]) == (day.month, day.day, 0)
    assume(1 < day.year < 9999)
    assert read("date", written) == day.isoformat()


# --- numbers


NUMBERS = st.decimals(-(10**15), 10**15, allow_nan=False, allow_infinity=False, places=2) | st.integers(0, 20).flatmap(
    lambda places: st.integers(-(10**49), 10**49).map(lambda digits: Decimal(f"{digits}E-{places}"))
)


@given(old=NUMBERS, new=NUMBERS, text=st.booleans())
def test_a_number_is_written_with_all_its_digits(old: Decimal, new: Decimal, text: bool) -> None:
    shown = PRICE | {
        "VALUE": int("".join(map(str, old.as_tuple().digits))), "NUMOFDEC": -int(old.as_tuple().exponent),
        "SIGN": "-" if old < 0 else "+",
    }  # fmt: skip
    shown = shown | {"VALUE": str(shown["VALUE"]), "NUMOFDEC": str(shown["NUMOFDEC"])} if text else shown
    screen = forms()

    assert screen.read("number", {"NUMERICDATA": shown}) == old
    written = screen.write("number", new, {"NUMERICDATA": shown})
    assert read("number", written) == new
    assert written["NUMERICDATA"].keys() == PRICE.keys()
    assert {type(written["NUMERICDATA"][name]) for name in ("VALUE", "NUMOFDEC")} == {str if text else int}
    assert json(screen.write("number", old, {"NUMERICDATA": shown})) == json({"NUMERICDATA": shown})


@given(st.decimals(-(10**12), 10**12, allow_nan=False, allow_infinity=False, places=4))
def test_what_the_simulator_shows_of_a_number_reads(number: Decimal) -> None:
    shown = {"NUMERICDATA": digits_of(number)}
    screen = forms()

    assert screen.read("number", shown) == number
    assert str(screen.read("number", shown)) == str(number) or number == 0
    assert json(screen.write("number", screen.read("number", shown), shown)) == json(shown)


@pytest.mark.parametrize(
    ("value", "digits", "decimals"),
    [(5, 500, 2), (Decimal("5.0"), 500, 2), (Decimal("5.125"), 5125, 3), (Decimal("1E+3"), 100000, 2), (0, 0, 2)],
)
def test_the_scale_that_was_read_is_kept_and_no_digit_is_lost(value: Any, digits: int, decimals: int) -> None:
    (written,) = forms().write("number", value, {"NUMERICDATA": PRICE}).values()

    assert written == PRICE | {"VALUE": digits, "NUMOFDEC": decimals}


@pytest.mark.parametrize(
    "parts",
    [
        {"VALUE": "x"}, {"VALUE": True}, {"VALUE": Decimal("3825.5")}, {"VALUE": "3825.5"}, {"VALUE": "1E3"},
        {"VALUE": -7}, {"VALUE": "-7", "SIGN": "-"}, {"VALUE": [7]}, {"VALUE": Decimal("1E+99999999")},
        {"VALUE": "9" * 5000}, {"NUMOFDEC": -1}, {"NUMOFDEC": 31}, {"NUMOFDEC": "two"}, {"NUMOFDEC": Decimal("0.5")},
        {"NUMOFDEC": 10**9}, {"SIGN": "minus"}, {"SIGN": "+-"}, {"SIGN": 1},
    ],
    ids=lambda parts: str(parts)[:40],
)  # fmt: skip
def test_a_number_that_contradicts_itself_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(Unreadable, match=r"."):
        read("number", {"NUMERICDATA": PRICE | parts})


@pytest.mark.parametrize("number", [True, [], "x", "1,234", [7]])
def test_what_is_no_number_or_two_is_refused(number: Any) -> None:
    for member in ("NUMERICDATA", "TEXTDATA"):
        with pytest.raises(Unreadable):
            read("number", {member: number})


@pytest.mark.parametrize("value", [{"VALUE": None}, {"VALUE": ""}, {}, PRICE | {"VALUE": None}], ids=str)
def test_an_object_without_digits_is_null(value: dict[str, Any]) -> None:
    screen = forms()

    assert screen.read("number", {"NUMERICDATA": value}) is None
    assert "number" not in screen.seen


@pytest.mark.parametrize(
    ("shown", "written"),
    [
        ({"NUMERICDATA": Decimal("3825.50")}, {"NUMERICDATA": Decimal("-1250.5")}),
        ({"NUMERICDATA": 0}, {"NUMERICDATA": Decimal("-1250.5")}),
        ({"NUMERICDATA": "7"}, {"NUMERICDATA": "-1250.5"}),
        ({"NUMERICDATA": "7,5"}, {"NUMERICDATA": "-1250,5"}),
        ({"TEXTDATA": "7.5"}, {"TEXTDATA": "-1250.5"}),
        ({"TEXTDATA": "7,5"}, {"TEXTDATA": "-1250,5"}),
        ({"TEXTDATA": "1.234.567"}, {"TEXTDATA": "-1250,5"}),
        ({"NUMERICDATA": PRICE}, {"NUMERICDATA": PRICE | {"VALUE": 125050, "SIGN": "-"}}),
        ({"NUMERICDATA": {"VALUE": 7}}, {"NUMERICDATA": {"VALUE": 12505, "NUMOFDEC": 1, "SIGN": "-"}}),
        ({"NUMERICDATA": {"VALUE": -7}}, {"NUMERICDATA": {"VALUE": -12505, "NUMOFDEC": 1}}),
    ],
    ids=str,
)
def test_another_number_is_written_in_the_form_that_was_read(shown: dict[str, Any], written: dict[str, Any]) -> None:
    screen = forms()

    assert screen.write("number", Decimal("-1250.5"), shown) == written
    assert screen.read("number", written) == Decimal("-1250.5")
    # A field that shows nothing is written as the last one that did.
    screen.read("number", shown)
    member = next(iter(shown))
    assert screen.write("number", Decimal("-1250.5"), {member: None}) == written


def test_a_number_of_text_is_written_in_the_locale() -> None:
    """1250.5 where a comma is the decimal sign would be 12505, or refused."""
    comma = forms(Locale(decimal_sign=","))

    assert comma.read("number", {"TEXTDATA": "1.234"}) == 1234
    assert comma.write("number", Decimal("1250.5"), {"TEXTDATA": "1.234"}) == {"TEXTDATA": "1250,5"}


@pytest.mark.parametrize("shown", [{"NUMERICDATA": PRICE}, {"NUMERICDATA": 7}, {"TEXTDATA": "7,5"}, {}], ids=str)
def test_a_setting_says_how_numbers_are_written(shown: dict[str, Any]) -> None:
    number = Decimal("-1250.50")

    assert forms(numbers="bare").write("number", number, shown) == {"NUMERICDATA": number}
    (written,) = forms(numbers="object").write("number", number, shown).values()
    assert [written[name] for name in ("VALUE", "NUMOFDEC", "SIGN")] == [125050, 2, "-"]


def test_where_the_screen_has_shown_no_number_yet_the_documented_form_is_written() -> None:
    written = forms().write("number", Decimal("3825.50"), None)

    assert written == {"NUMERICDATA": {"VALUE": 382550, "NUMOFDEC": 2, "SIGN": "+", "qualifier": "OTHER"}}


# --- flags


@pytest.mark.parametrize("words", [*WORDS, "YES/NO", "y/n", "True/False"])
def test_a_flag_turns_in_its_own_form(words: str) -> None:
    yes, no = words.split("/")
    screen = forms()

    for shown, flag, written in ((yes, False, no), (no, True, yes), (yes, True, yes), (no, False, no)):
        screen.read("boolean", {"TEXTDATA": yes})  # of 0 and - alone nobody knows what stands for true
        screen.read("boolean", {"TEXTDATA": shown})
        assert screen.write("boolean", flag, {"TEXTDATA": shown}) == {"TEXTDATA": written}


@pytest.mark.parametrize(
    ("yes", "no"), [(True, False), (1, 0), (-1, 0), *[tuple(words.split("/")) for words in WORDS]], ids=str
)
def test_a_flag_that_shows_nothing_is_written_as_the_last_one_that_did(yes: Any, no: Any) -> None:
    screen = forms()
    screen.read("boolean", {"TEXTDATA": yes})
    screen.read("boolean", {"TEXTDATA": no})
    screen.read("boolean", {"TEXTDATA": None})

    for shown in (None, {}, {"TEXTDATA": None}, {"TEXTDATA": ""}):
        assert json(screen.write("boolean", True, shown)) == json({"TEXTDATA": yes})
        assert json(screen.write("boolean", False, shown)) == json({"TEXTDATA": no})


def test_a_flag_is_y_or_n_where_none_was_shown_yet() -> None:
    assert forms().write("boolean", True, None) == {"TEXTDATA": "Y"}
    assert forms().write("boolean", False, {}) == {"TEXTDATA": "N"}


@pytest.mark.parametrize("setting", WORDS)
@pytest.mark.parametrize("shown", ["Y", "0", True, -1, None])
def test_a_setting_says_how_flags_are_written(setting: Any, shown: Any) -> None:
    yes, no = setting.split("/")
    screen = forms(flags=setting)
    screen.read("boolean", {"TEXTDATA": "true"})

    assert screen.write("boolean", True, {"TEXTDATA": shown}) == {"TEXTDATA": yes}
    assert screen.write("boolean", False, {"TEXTDATA": shown}) == {"TEXTDATA": no}


@pytest.mark.parametrize("word", ["J", "perhaps", 2, Decimal("1.0"), [], {}])
def test_what_is_no_flag_is_refused(word: Any) -> None:
    with pytest.raises(Unreadable):
        read("boolean", {"TEXTDATA": word})


# --- others


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("date", {"NUMERICDATA": 7}),
        ("date", {"TEXTDATA": "soon"}),
        ("date", {"TEXTDATA": "06/07/2024"}),
        ("text", {"NUMERICDATA": 7}),
        ("text", {"TEXTDATA": 7}),
        ("number", {"TEXTDATA": "x"}),
        ("boolean", {"NUMERICDATA": PRICE}),
    ],
)
def test_a_value_of_another_type_is_refused(kind: FieldType, value: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        read(kind, value)


def test_what_cannot_be_read_is_not_remembered() -> None:
    screen = forms()
    for kind, value in (
        ("date", {"DATETIMEDATA": DECEMBER | {"MONTH": 13}}),
        ("number", {"NUMERICDATA": PRICE | {"SIGN": "?"}}),
        ("number", {"TEXTDATA": "x"}),
        ("boolean", {"TEXTDATA": "?"}),
    ):
        with pytest.raises(Unreadable):
            screen.read(cast("FieldType", kind), value)

    assert screen.seen == {}


def test_the_memory_of_earlier_reads_serves_nulls_and_new_rows() -> None:
    screen = forms()
    screen.read("date", {"DATETIMEDATA": DECEMBER | {"YEAR": "2021", "HOUR": 9}})
    screen.read("number", {"NUMERICDATA": 7})
    screen.read("boolean", {"TEXTDATA": "No"})
    for kind in get_args(FieldType):
        screen.read(kind, {})

    for shown in (None, {}, {"TEXTDATA": None}, {"NUMERICDATA": None}, {"DATETIMEDATA": None}):
        assert screen.write("date", "2024-02-29", shown) == {
            "DATETIMEDATA": DECEMBER | {"YEAR": "2024", "MONTH": 2, "DAY": 29}
        }
        assert screen.write("number", Decimal("1.50"), shown) == {"NUMERICDATA": Decimal("1.50")}
        assert screen.write("boolean", True, shown) == {"TEXTDATA": "Yes"}


@pytest.mark.timed
@pytest.mark.parametrize("kind", ["number", "integer", "date", "boolean"])
def test_hostile_values_cost_no_time(kind: FieldType) -> None:
    """Numbers of JSON may have any exponent, and texts any length."""
    monsters: list[Any] = [Decimal("1E+999999999"), Decimal("1E-999999999"), "9" * 100_000, "1e999999999", 10**4000]
    began = time.perf_counter()

    for monster in monsters:
        for value in (
            *({member: monster} for member in ("TEXTDATA", "NUMERICDATA", "DATETIMEDATA")),
            *({"NUMERICDATA": PRICE | {name: monster}} for name in PRICE),
            *({"DATETIMEDATA": DECEMBER | {name: monster}} for name in DECEMBER),
        ):
            with suppress(Unreadable):
                read(kind, value)

    assert time.perf_counter() - began < 5


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.decimals(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(
    st.sampled_from(get_args(FieldType)),
    st.dictionaries(
        st.sampled_from(["TEXTDATA", "NUMERICDATA", "DATETIMEDATA"]),
        JSON
        | st.fixed_dictionaries({}, optional=dict.fromkeys(DECEMBER, JSON))
        | st.fixed_dictionaries({}, optional=dict.fromkeys(PRICE, JSON)),
    ),
)
def test_anything_is_read_or_refused(kind: FieldType, value: dict[str, Any]) -> None:
    screen = forms()
    try:
        found = screen.read(kind, value)
    except Unreadable:
        return
    if found is not None and kind != "text" and kind != "enum":
        written = screen.write(kind, found, value)
        assert screen.read(kind, written) == found


def test_zones_of_the_test_are_those_of_the_world() -> None:
    """From UTC-12 to UTC+14, half hours included."""
    for zone in ("Etc/GMT+12", "Pacific/Kiritimati", "America/St_Johns", "Asia/Kolkata"):
        offset = datetime(2021, 1, 1, tzinfo=ZoneInfo(zone)).utcoffset()
        assert offset is not None
        assert read("date", {"DATETIMEDATA": moment(date(2021, 12, 21), offset)}) == "2021-12-21"
