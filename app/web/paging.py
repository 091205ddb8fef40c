"""Paging of lists: how many, and behind which cursor."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeVar

import msgspec
from asyncpg import Record
from litestar.openapi.spec import Operation

from app.contracts.filters import INTEGER, read_parameters, refuse
from app.engine.cursors import Cursor, check_incarnation, read_cursor, write_cursor
from app.web.auth import AnyRequest
from app.web.openapi import parameter
from app.web.runtime import Runtime, VanguardRequest

T = TypeVar("T")


class Size(NamedTuple):
    """How a route calls the size of its pages, what it is if not given, and at most."""

    name: str
    default: int
    most: int


# `GET D/drafts` is older, and says pageSize.
LIMIT = Size("limit", 50, 200)
PAGE_SIZE = Size("pageSize", 100, 1000)


@dataclass
class PageOperation(Operation):
    """The parameters for /schema: the handler reads the query string itself."""

    def __post_init__(self) -> None:
        self.parameters = [
            *(self.parameters or []),
            parameter("limit", "integer", "How many", minimum=1, maximum=LIMIT.most, default=LIMIT.default),
            parameter("after", "string", "nextCursor of the page before"),
        ]


def read_given(request: VanguardRequest, *names: str, **choices: tuple[str, ...]) -> dict[str, str]:
    """What is given of these names, and of each choice one of its values; raises InvalidFilter."""
    parameters = read_parameters(request.scope["query_string"])
    given = dict(parameters)
    if len(given) != len(parameters):
        raise refuse(parameters[-1][0], "each parameter can be given once.")
    if unknown := given.keys() - {*names, *choices}:
        raise refuse(min(unknown), f"no such parameter; there are {', '.join([*names, *choices])}.")
    for name, allowed in choices.items():
        if given.get(name, allowed[0]) not in allowed:
            raise refuse(name, f"one of {', '.join(allowed)}.")
    return given


def refuse_query(request: AnyRequest) -> None:
    """Raises InvalidFilter where a route has parameters that it does not take: `POST D/commit?dryRun=true` would
    commit. What a route reads of its query is in its operation; public routes leave the rest alone.
    """
    handler = request.route_handler
    query = request.scope["query_string"]
    if query and handler.operation_class is Operation and request.method != "OPTIONS" and not handler.opt.get("public"):
        for name, _ in read_parameters(query):
            raise refuse(name, "this route takes no parameters.")


def read_page(
    request: VanguardRequest, size: Size = LIMIT, names: Sequence[str] = (), **choices: tuple[str, ...]
) -> tuple[int, dict[str, str]]:
    """The size, and what else is given: `after`, any of the names, and of each choice one of its values; raises
    InvalidFilter.
    """
    given = read_given(request, size.name, "after", *names, **choices)
    text = given.pop(size.name, str(size.default))
    if not INTEGER.fullmatch(text) or not 1 <= int(text) <= size.most:
        raise refuse(size.name, f"a whole number from 1 to {size.most}.")
    return int(text), given


class Walk:
    """A listing, page by page. `cursor`: behind which row this page begins, None where it is the first."""

    def __init__(self, runtime: Runtime, purpose: str, after: str | None):
        """`purpose` names what is listed, and how: no other listing takes its cursors. Raises InvalidCursor."""
        self._secret, self._clock, self._purpose = runtime.settings.secret, runtime.clock, purpose
        self._incarnation = 0
        self.cursor = None if after is None else read_cursor(self._secret, self._clock, purpose, after)

    @property
    def key(self) -> str | None:
        """The id of the row behind which the page begins."""
        return self.cursor.key if self.cursor else None

    @property
    def id(self) -> uuid.UUID | None:
        """The same, where ids are UUIDs."""
        return uuid.UUID(self.cursor.key) if self.cursor else None

    @property
    def at(self) -> datetime | None:
        """The time of that row, in a listing by time and id."""
        return datetime.fromisoformat(str(self.cursor.values[0])) if self.cursor else None

    def check(self, incarnation: int) -> None:
        """The page is of this incarnation of the database; raises InvalidCursor where the one before was of another."""
        check_incarnation(self.cursor, incarnation)
        self._incarnation = incarnation

    def next(self, last: Cursor | None) -> str | None:
        """The cursor of the page behind this row, the last one of this page; None where there is none."""
        if last is None:
            return None
        cursor = msgspec.structs.replace(last, incarnation=self._incarnation)
        return write_cursor(self._secret, self._clock, self._purpose, cursor)

    def following(self, found: Sequence[T], limit: int, place: Callable[[T], Cursor]) -> str | None:
        """The same of what was found, one row more than a page has where there is a next one."""
        return self.next(place(found[limit - 1]) if len(found) > limit else None)


def by_time(record: Record) -> Cursor:
    """The place of a record in a listing by its time, `position`, and its id."""
    return Cursor((record["position"].isoformat(),), str(record["id"]))
