"""What tests of the feed ask for, in their words."""

from collections.abc import Iterable, Sequence
from typing import Any

import httpx

from app.base import exact_json
from tests.support.world import User, committed

Answer = dict[str, Any]
MOST = 1000  # events of a page


async def ask(user: User, since: str | None, *, of_dataset: bool = False, **params: Any) -> httpx.Response:
    """GET changes: of the organization, or of the user's dataset."""
    path = "changes" if of_dataset else f"/api/v1/orgs/{user.organization}/changes"
    return await user.get(path, ({} if since is None else {"since": since}) | params)


async def page(user: User, since: str, **more: Any) -> Answer:
    """A page that is answered."""
    response = await ask(user, since, **more)
    assert response.status_code == 200, response.text
    answer: Answer = exact_json.decode(response.content)
    return answer


async def happened(user: User, since: str = "earliest", *, limit: int = MOST, **more: Any) -> list[Answer]:
    """All events after a position, page by page."""
    found: list[Answer] = []
    while True:
        answer = await page(user, since, limit=limit, **more)
        found += answer["data"]
        since = answer["nextSince"]
        if answer["upToDate"]:
            return found


async def now(user: User) -> str:
    """The position of now."""
    return str((await page(user, "now"))["nextSince"])


async def save(user: User, *keys: str, **delta: Any) -> Answer:
    """Drafts of these rows and their commit; its whole answer."""
    for key in keys:
        await user.draft(key, delta)
    return await committed(user, *keys)


def number(position: str) -> int:
    """What of a position says how late it is."""
    return int(position.partition(".")[0], 16)


def brief(event: Answer) -> tuple[Any, ...]:
    """Type, who did it, and the rows."""
    actor = event["actor"] and event["actor"]["id"]
    return event["type"], actor, event.get("ids")


def briefly(events: Iterable[Answer]) -> list[tuple[Any, ...]]:
    """The same of several."""
    return [brief(event) for event in events]


def public(events: Iterable[Answer]) -> list[Answer]:
    """Those that are not about the reader's own drafts."""
    return [event for event in events if event["type"] != "drafts"]


def only(events: Iterable[Answer], *types: str) -> list[Answer]:
    """Those of some types."""
    return [event for event in events if event["type"] in types]


def in_order(events: Sequence[Answer]) -> bool:
    """Whether numbers only grow."""
    numbers = [number(event["id"]) for event in events]
    return numbers == sorted(set(numbers))
