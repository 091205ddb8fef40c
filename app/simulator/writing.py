"""How things are written: every switch, and what dates, times, numbers and flags look like in each form."""

import re
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

Shape = Literal["D", "CELL", "DATAFIELD", "GRIDS"]
Dates = Literal["text", "iso", "us", "eu"]
Numbers = Literal["grouped", "plain", "comma", "comma_plain"]
FlagForm = Literal["Y/N", "Yes/No", "+/-", "1/0", "-1/0", "true/false"]

MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
WORDS: dict[FlagForm, list[str]] = {form: form.split("/") for form in get_args(FlagForm)}  # yes and no
FLAGS = {word.upper(): place == 0 for words in WORDS.values() for place, word in enumerate(words)}
SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
SWAPPED = str.maketrans(",.", ".,")


class Writing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an installation writes, and expects it to be written.

    Of the grid: `shape` of answers; `dates`, `times`, `numbers` and `flags` of cells; `zone`, the server's, of local
    times and of the screen's dates; `typed`: numbers and flags as those of JSON; `without`: aliases that no row has;
    `localizes`: LOCALIZE_RESULT is listened to; `records`: what RECORDS says; `more`: what is said of more rows.
    Of the screen: `year` of DATETIMEDATA; `screen_numbers` and `screen_flags`; `update`: put blanks what is not sent;
    `normalize`: what clients write is changed. Of both: `bom` before a body; `alerts`: the status of an alert.
    """

    shape: Shape = "D"
    dates: Dates = "text"
    times: Literal["utc", "local"] = "utc"
    zone: str = "UTC"
    numbers: Numbers = "grouped"
    flags: FlagForm = "Y/N"
    typed: bool = False
    without: tuple[str, ...] = ()
    localizes: bool = True
    records: Literal["total", "page", "null"] = "total"
    more: Literal["right", "absent", "no", "yes"] = "right"
    bom: bool = False
    year: Literal["epoch", "calendar"] = "epoch"
    screen_numbers: Literal["object", "bare"] = "object"
    screen_flags: FlagForm = "Y/N"
    alerts: Literal[400, 200] = 400
    update: Literal["patch", "put"] = "patch"
    normalize: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError."""
        zone_of(self.zone)


def rewritten(writing: Writing, changes: dict[str, Any]) -> Writing:
    """Raises msgspec.ValidationError."""
    return msgspec.convert(msgspec.structs.asdict(writing) | changes, Writing)


def zone_of(name: str) -> tzinfo:
    """The time zone of this name; raises ValueError."""
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError):
        raise ValueError(f"{name[:80]} is not a time zone") from None


def date_text(value: date, form: Dates) -> str:
    """A date in this form."""
    if form == "text":
        return f"{value.day:02d}-{MONTHS[value.month - 1]}-{value.year:04d}"
    if form == "us":
        return f"{value.month}/{value.day}/{value.year:04d}"
    return f"{value.day:02d}/{value.month:02d}/{value.year:04d}" if form == "eu" else value.isoformat()


def time_text(value: datetime, writing: Writing) -> str:
    """UTC with seconds, or the server's minute."""
    if writing.times == "utc":
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    at = value.astimezone(zone_of(writing.zone))
    return f"{date_text(at.date(), writing.dates)} {at:%H:%M}"


def plain_time_text(value: datetime, zone: str) -> str:
    """The server's time whatever the locale is."""
    return f"{value.astimezone(zone_of(zone)):%Y-%m-%d %H:%M:%S}"


def number_text(value: Decimal, form: Numbers) -> str:
    """A number in this form."""
    text = f"{value:f}" if form in ("plain", "comma_plain") else f"{value:,f}"
    return text.translate(SWAPPED) if form in ("comma", "comma_plain") else text


def read_date(text: str, form: Dates) -> date:
    """A date in whichever form; of those with slashes the day is first in the European one. Raises ValueError."""
    slashed = SLASHED.fullmatch(text)
    if slashed:
        first, second, year = map(int, slashed.groups())
        return date(year, second, first) if form == "eu" else date(year, first, second)
    day, _, rest = text.partition("-")
    month, _, year_text = rest.partition("-")
    if month.upper() in MONTHS:
        return date(int(year_text), MONTHS.index(month.upper()) + 1, int(day))
    return date.fromisoformat(text)


def read_time(text: str, writing: Writing) -> datetime:
    """ISO, or a date in whichever form with or without an hour; the server's time if no offset is said.

    Raises ValueError.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        day, _, hour = text.partition(" ")
        at = datetime.combine(read_date(day, writing.dates), time.fromisoformat(hour) if hour else time())
    return at.replace(tzinfo=zone_of(writing.zone)) if at.tzinfo is None else at


def read_number(text: str, form: Numbers) -> Decimal:
    """A number in this form, with or without separators; raises ValueError, decimal.InvalidOperation."""
    number = Decimal((text.translate(SWAPPED) if form in ("comma", "comma_plain") else text).replace(",", ""))
    if not number.is_finite():
        raise ValueError("it compares with nothing")
    return number
