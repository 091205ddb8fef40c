"""The user-defined screen: one record a call, its fields as pairs of name and value."""

from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec

from app.contracts import Contract
from app.upstream.pems.forms import Forms
from app.upstream.pems.values import Unreadable
from app.upstream.protocol import Failed

FIELDS = "USERDEFINEDSCREENFIELDVALUELIST"
Pairs = dict[str, dict[str, Any] | None]


class _Pair(msgspec.Struct, frozen=True, kw_only=True):
    USERDEFINEDSCREENFIELDNAME: str
    USERDEFINEDSCREENFIELDVALUE: dict[str, Any] | None = None


class _Pairs(msgspec.Struct, frozen=True, kw_only=True):
    USERDEFINEDSCREENFIELDVALUEPAIR: list[_Pair] | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A record as the screen shows it; `recordid` is what its next write has to show."""

    USERDEFINEDSCREENFIELDVALUELIST: _Pairs = _Pairs()
    recordid: int | str | None = None

    @property
    def values(self) -> Pairs:
        """The fields' values by their names on the screen, as they came."""
        pairs = self.USERDEFINEDSCREENFIELDVALUELIST.USERDEFINEDSCREENFIELDVALUEPAIR or ()
        return {pair.USERDEFINEDSCREENFIELDNAME: pair.USERDEFINEDSCREENFIELDVALUE for pair in pairs}


class ScreenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer; `Result` is null where nothing was done."""

    Result: Any = None
    ErrorAlert: Any = None
    ConfirmationAlert: Any = None

    @property
    def record(self) -> Record | None:
        """The record in it, in ResultData or in a member of it; None where there is none that can be read."""
        held = self.Result.get("ResultData") if isinstance(self.Result, dict) else None
        places = [held, *held.values()] if isinstance(held, dict) else []
        found = next((each for each in places if isinstance(each, dict) and FIELDS in each), None)
        try:
            return None if found is None else msgspec.convert(found, Record)
        except msgspec.ValidationError:
            return None


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, RecursionError)
_answer = msgspec.json.Decoder(ScreenAnswer, float_hook=Decimal)


def screen_request(screen: str, action: str, pairs: Pairs, token: str | None) -> dict[str, Any]:
    """The body of a request; the token is a number where it looks like one."""
    listed = [
        {"USERDEFINEDSCREENFIELDNAME": name, "USERDEFINEDSCREENFIELDVALUE": value} for name, value in pairs.items()
    ]
    lock = {} if token is None else {"recordid": int(token) if token.isascii() and token.isdigit() else token}
    return {
        "USERDEFINEDSCREENNAME": screen,
        "USERDEFINEDSERVICEACTION": action,
        "USERDEFINEDSCREENFIELDVALUELIST": {"USERDEFINEDSCREENFIELDVALUEPAIR": listed},
        **lock,
    }


def read_answer(body: bytes) -> ScreenAnswer | None:
    """The envelope; None for a body that is none."""
    try:
        return _answer.decode(body)
    except UNREADABLE:
        return None


def look_at(contract: Contract, names: Mapping[str, str], forms: Forms, shown: Pairs) -> None:
    """See in which forms the values are shown; those that cannot be read are passed over."""
    for field in contract.fields:
        with suppress(Unreadable):
            forms.read(field.type, shown.get(names.get(field.name, "")) or {})


def read_document(contract: Contract, names: Mapping[str, str], forms: Forms, shown: Pairs) -> dict[str, Any]:
    """The editable fields; raises Failed where one is not there or cannot be read. `names` are those on the screen."""
    document = {}
    for field in contract.fields:
        name = names.get(field.name)
        if name is None or not field.editable:
            continue
        if name not in shown:
            raise Failed(f"The screen of PEMS does not show {name}.")
        try:
            document[field.name] = forms.read(field.type, shown[name] or {})
        except Unreadable as error:
            raise Failed(f"{name} on the screen of PEMS: {error}") from None
    return document
