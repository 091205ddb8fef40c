"""The second fence, of development and tests: what a statement says is proved to be of the caller's organization alone.

    check(name, text, parameters)    raises Unbound where a relation with tenants' rows is not bound

The first fence is that each statement is written so. PostgreSQL's own parser says what a text means (pglast, of the
extra `dev`); production neither has it nor asks.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any, Protocol

import structlog

from app.base.fence.proof import Proof
from app.base.places import holder

log = structlog.get_logger(__name__)

ALL = re.compile(r"^-- All organizations: (?P<why>[^\n]*?(?:\n--[^\n]*?)*?)\.(?=$|\s)", re.MULTILINE)
HEADER = re.compile(r"(?:--.*\n)*")
ADVICE = (
    "Compare that with the parameter `organization`, or with a column that is bound, in the WHERE or ON of the same "
    "level. A statement of all organizations on purpose says so in its header: `-- All organizations: why.`"
)


class Unbound(AssertionError):
    """A statement that reads or writes rows of other organizations than the caller's, as far as anybody has proved."""


class Provable(Protocol):
    """What a connection runs."""

    @property
    def name(self) -> str:
        """Its file."""

    @property
    def text(self) -> str:
        """SQL with `$1` and on."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of `$1` and on; those without one are values that a condition was composed with."""


@lru_cache(maxsize=4096)
def reason(text: str) -> str | None:
    """Why a statement is of all organizations on purpose, as its header says; None where it is not."""
    header = HEADER.match(text)
    found = ALL.search(header[0]) if header else None
    lines = found["why"].split("\n") if found else ()
    return " ".join(line.removeprefix("--").strip() for line in lines).strip() if found else None


@lru_cache(maxsize=4096)
def check(name: str, text: str, parameters: tuple[str, ...]) -> None:
    """Prove a statement; raises Unbound. Once proved, a text is not looked at again for as long as it is remembered."""
    if reason(text) is not None:
        return
    import pglast  # here alone: production has none

    faults = [fault for raw in pglast.parse_sql(text) for fault in Proof(parameters).run(raw.stmt)]
    if faults:
        raise Unbound(f"{name} is not bound to the caller's organization: {'; '.join(faults)}. {ADVICE}")


def guard(statement: Provable) -> None:
    """What is to hold before a statement runs; raises Unbound. One of all organizations serves no request of one."""
    check(statement.name, statement.text, statement.parameters)
    whose = holder.get()
    if whose is not None and whose.organization is not None and (why := reason(statement.text)):
        raise Unbound(f"{statement.name} is of all organizations ({why}), and this request of {whose.organization}.")


def guarded(run: Callable[..., Any]) -> Callable[..., Any]:
    """The method of a connection that runs statements, with the fence before it."""

    def run_guarded(connection: Any, statement: Provable, method: str, given: Mapping[str, Any]) -> Any:
        guard(statement)
        return run(connection, statement, method, given)

    return run_guarded


@cache
def is_up() -> bool:
    """Whether there is the parser to prove anything with; said once where there is none."""
    try:
        import pglast  # noqa: F401
    except ImportError:
        log.warning("statements are not proved", missing="pglast", install="pip install -e '.[dev]'")
        return False
    return True
