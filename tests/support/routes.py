"""The routes of the application, as tests walk over them."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from app.web.budgets import Body
from tests.support.world import World

NOBODYS = "00000000-0000-0000-0000-000000000000"
# What names something in a path, and stands for nothing that there is.
NAMES = {
    "dataset": "nothing_here",
    "version": "9.9",
    "row_id": "nobody",
    "account": "nobody-here",
    "event_id": "000000000000.0.AAAAAAAA.",
}


class Route(NamedTuple):
    """A method at a path; `reads`: it changes nothing, `body`: which kind it takes, `requires`: what the gate asks of a
    principal there.
    """

    method: str
    path: str
    public: bool
    reads: bool
    body: Body
    requires: Callable[[Any], None] | None

    @property
    def name(self) -> str:
        """As people write it: `GET /health`."""
        return f"{self.method} {self.path}"

    def at(self, organization: str, **names: str) -> str:
        """The path with its names filled; those that are not given stand for nothing that there is."""
        found = self.path.replace("{org}", organization)
        while "{" in found:
            name = found.partition("{")[2].partition("}")[0]
            found = found.replace(f"{{{name}}}", names.get(name, NAMES.get(name, NOBODYS)))
        return found


def walk(world: World) -> Iterator[Route]:
    """Every route that there is, by path."""
    for route in sorted(world.application.app.routes, key=lambda route: route.path_format):
        handlers: dict[str, tuple[Any, Any]] = getattr(route, "route_handler_map", {})
        for method, (handler, _) in sorted(handlers.items()):
            if method not in ("OPTIONS", "HEAD"):
                opt = handler.opt
                reads = method == "GET" or bool(opt.get("reads"))
                body = opt.get("body", Body.SMALL)
                yield Route(method, route.path_format, bool(opt.get("public")), reads, body, opt.get("requires"))
