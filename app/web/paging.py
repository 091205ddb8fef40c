"""Paging of lists: how many, and behind which cursor."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation

from app.contracts.filters import INTEGER, read_parameters, refuse
from app.web.auth import VanguardRequest
from app.web.openapi import parameter

DEFAULT_LIMIT, MAX_LIMIT = 50, 200


@dataclass
class PageOperation(Operation):
    """The parameters for /schema, as in rows.py."""

    def __post_init__(self) -> None:
        self.parameters = [
            *(self.parameters or []),
            parameter("limit", "integer", "How many", minimum=1, maximum=MAX_LIMIT, default=DEFAULT_LIMIT),
            parameter("after", "string", "nextCursor of the page before"),
        ]


def read_page(request: VanguardRequest, **choices: tuple[str, ...]) -> tuple[int, dict[str, str]]:
    """The limit, and what else is given: `after`, and of each choice one of its values; raises InvalidFilter."""
    parameters = read_parameters(request.scope["query_string"])
    given = dict(parameters)
    if len(given) != len(parameters):
        raise refuse(parameters[-1][0], "each parameter can be given once.")
    if unknown := given.keys() - {"limit", "after", *choices}:
        raise refuse(min(unknown), f"no such parameter; there are {', '.join(['limit', 'after', *choices])}.")
    for name, allowed in choices.items():
        if given.get(name, allowed[0]) not in allowed:
            raise refuse(name, f"one of {', '.join(allowed)}.")
    limit = given.pop("limit", str(DEFAULT_LIMIT))
    if not INTEGER.fullmatch(limit) or not 1 <= int(limit) <= MAX_LIMIT:
        raise refuse("limit", f"a whole number from 1 to {MAX_LIMIT}.")
    return int(limit), given
