"""Headers that come in several lines: a list is one list, and what is said once is not said twice; and HEAD."""

from collections.abc import Mapping
from typing import Any

from app.base.errors import Code, Culprit, MalformedRequest

# Two of these contradict each other, and whoever stands between may have read the other one.
ONCE = {
    b"authorization": "Authorization",
    b"content-type": "Content-Type",
    b"host": "Host",
    b"idempotency-key": "Idempotency-Key",
}


def check_once(scope: Mapping[str, Any]) -> None:
    """Raises MalformedRequest where a header comes twice that is no list."""
    found = [name for name, _ in scope["headers"] if name in ONCE]
    if len(found) == len(set(found)):
        return
    name = next(ONCE[each] for each in found if found.count(each) > 1)
    culprit = Culprit(code=Code.INVALID_PARAMETER, parameter=name, message="it can be given once.")
    raise MalformedRequest(f"The header {name} comes twice.", errors=[culprit])


def listed(scope: Mapping[str, Any], name: bytes) -> str | None:
    """The list of all lines of a header (RFC 9110, 5.3); None where it does not come. The name in lower case."""
    lines = [value.decode("latin-1") for each, value in scope["headers"] if each == name]
    return ", ".join(lines) if lines else None


def mark_head(scope: Mapping[str, Any]) -> None:
    """Note that the request is a HEAD, which routes see as GET."""
    scope["state"]["is_head"] = True


def is_head(scope: Mapping[str, Any]) -> bool:
    """Whether nobody wants the body."""
    return bool(scope["state"].get("is_head"))
