"""How single values are written as text."""

import datetime
from decimal import Decimal
from typing import Any

from app.base import exact_json
from app.contracts.values import write_datetime
from app.engine.export import FORMULA


def plain(value: Any) -> str:
    """A value that is no text and not None: a number with all its digits, true or false, a day, a moment, else JSON."""
    match value:
        case bool():
            return "true" if value else "false"
        case Decimal():
            return f"{value:f}"
        case int():
            return str(value)
        case datetime.datetime():
            return write_datetime(value)
        case datetime.date():
            return value.isoformat()
        case _:
            return exact_json.encode(value).decode()


def neutral(text: str) -> str:
    """The text as a spreadsheet does not take it for a formula: what engine/export.py does in SQL."""
    bare = text.lstrip("'")
    return f"'{text}" if bare and bare[0] in FORMULA else text
