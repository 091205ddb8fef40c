"""Previews: what a session comes to, what validation says of it, and the digest of all that."""

import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from app.base import exact_json
from tests.support.world import FLEET, NEW, User, World, line, refused, vehicle

SID = "s-1"
ADD_SESSION = """
INSERT INTO edit_session (organization_id, id, dataset, user_id, mode, created_at, expires_at)
VALUES ($1, $2, $3, $4, 'full_table', $5, $5::timestamptz + interval '1 day')
"""


async def begin(world: World, user: User, sid: str = SID) -> None:
    """An open session."""
    await world.db.execute(ADD_SESSION, user.organization, sid, user.dataset, user.id, world.clock())


async def edit(user: User, key: str, delta: Mapping[str, Any] | None = None, sid: str = SID, **more: Any) -> None:
    """A draft of the session."""
    body = {"sessionId": sid, "modifications": [{"id": key, "delta": delta or {}, **more}]}
    response = await user.post("drafts", body)
    assert response.status_code == 200, response.text


async def previewed(user: User, sid: str = SID, **body: Any) -> dict[str, Any]:
    """The whole answer, numbers with their digits."""
    response = await user.post(f"sessions/{sid}/preview", body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = exact_json.decode(response.content)
    return answer


def cells(answer: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The differences as (id, field, old, new)."""
    return [(each["id"], each["field"], each["old"], each["new"]) for each in answer["diffs"]]


async def test_a_preview_tells_cells_as_theirs_has_them_and_as_the_session_wants_them(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="old"), "B": line()})
    await begin(world, ann)
    await edit(ann, "A", {"model": "new", "monthlyRate": 2000})
    await edit(ann, "B", {"equipment": "EQ"})
    answer = await previewed(ann)
    assert cells(answer) == [("A", "model", "old", "new"), ("A", "monthlyRate", 1000, 2000), ("B", "equipment", None, "EQ")]
    print(answer)
