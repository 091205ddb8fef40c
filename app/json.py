"""JSON that keeps the digits of numbers: no value passes through a binary float."""

from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from app.errors import Culprit, MalformedRequest

T = TypeVar("T")

_encoder = msgspec.json.Encoder(decimal_format="number")
_any = msgspec.json.Decoder(float_hook=Decimal)


def encode(value: Any) -> bytes:
    """JSON text; Decimals become numbers with all their digits, Raw passes through."""
    return _encoder.encode(value)


def decode(text: bytes | str) -> Any:
    """The value of trusted JSON text, numbers with a fraction as Decimal."""
    return _any.decode(text)


def read(body: bytes, shape: type[T]) -> T:
    """A request body as a struct; raises MalformedRequest that names the place."""
    try:
        return msgspec.json.Decoder(shape, float_hook=Decimal).decode(body)
    except msgspec.ValidationError as error:
        head, _, path = str(error).partition(" - at `$")
        where = path.rstrip("`").lstrip(".")
        culprit = Culprit(code="INVALID_TYPE", message=head, field=where or None)
        raise MalformedRequest(f"{head}{f' at {where}' if where else ''}.", errors=[culprit]) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedRequest(f"The body is not JSON: {error}.") from None
    except RecursionError:
        raise MalformedRequest("The body is nested too deeply.") from None
