"""JSON that keeps the digits of numbers: no value passes through a binary float."""

import gc
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import msgspec

from app.base.errors import Code, Culprit, MalformedRequest

T = TypeVar("T")

# What msgspec says of a member that it names in the message, not in the path.
MEMBER = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)
LONGEST_MESSAGE = 200
LONG = 64 * 1024  # bytes of a body; a shorter one is read in some milliseconds, whatever it holds
MOST_DIGITS = 640  # of a whole number in a long body; Python takes no less for a bound

_encoder = msgspec.json.Encoder(decimal_format="number")
_any = msgspec.json.Decoder(float_hook=Decimal)


def _check_members(members: list[tuple[str, Any]]) -> None:
    if len(dict(members)) == len(members):
        return
    seen: set[str] = set()
    for name, _ in members:
        if name in seen:
            shown = name[:LONGEST_MESSAGE]
            culprit = Culprit(code=Code.DUPLICATE_MEMBER, message="An object has a member once.", field=shown)
            raise MalformedRequest(f"The member {shown!r} comes twice in one object.", errors=[culprit])
        seen.add(name)


# msgspec keeps the last of two members of a name, and can ask nobody. Values are of no interest here.
_members = json.JSONDecoder(object_pairs_hook=_check_members, parse_float=str, parse_int=str, strict=False)


def encode(value: Any) -> bytes:
    """JSON text; Decimals become numbers with all their digits, Raw passes through."""
    return _encoder.encode(value)


def decode(text: bytes | str) -> Any:
    """The value of trusted JSON text, numbers with a fraction as Decimal."""
    return _any.decode(text)


def check_members(body: bytes) -> bool:
    """Raises MalformedRequest for an object that has a member twice; False where it is nested too deeply to tell. What
    is no JSON is for `read` to refuse.
    """
    try:
        with suppress(ValueError), no_collection():
            _members.decode(body.decode())
    except RecursionError:
        return False
    return True


def read(body: bytes, shape: type[T], *, members_checked: bool = False) -> T:
    """A request body as a struct; raises MalformedRequest that names the place. `members_checked`: somebody has had a
    look at a long body before, in a turn of its own.
    """
    told = members_checked or check_members(body)
    try:
        with no_collection(), few_digits(len(body) > LONG):
            value = msgspec.json.Decoder(shape, float_hook=Decimal).decode(body.decode())
    except msgspec.ValidationError as error:
        head, _, path = str(error).partition(" - at `$")
        where = path.rstrip("`").lstrip(".")
        # A message repeats what was sent, and that can be long.
        head = head[:LONGEST_MESSAGE]
        member = MEMBER.fullmatch(head)
        field = ".".join(part for part in (where, member[2] if member else "") if part)
        culprit = Culprit(code=Code.INVALID_TYPE, message=head, field=field or None)
        raise MalformedRequest(f"{head}{f' at {where}' if where else ''}.", errors=[culprit]) from None
    except InvalidOperation:
        raise MalformedRequest("The body holds a number with an exponent beyond all bounds.") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedRequest(f"The body is not JSON: {error}.") from None
    except RecursionError:
        told = False
    if not told:
        raise MalformedRequest("The body is nested too deeply.")
    return value


@contextmanager
def no_collection() -> Iterator[None]:
    """Nothing of what is being read can be garbage, and the collector would look through it again and again: 200,000
    empty lists took a third of a second instead of 25 ms.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def few_digits(wanted: bool) -> Iterator[None]:
    """A whole number is read in the square of its digits: two thousand of 4,200, which is Python's own bound, took a
    fifth of a second and more. Those that can be stored have thirty; in a short body a longer one is refused by itself.
    """
    digits = sys.get_int_max_str_digits()
    if wanted:
        sys.set_int_max_str_digits(MOST_DIGITS)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(digits)
