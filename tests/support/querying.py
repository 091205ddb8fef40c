"""Questions, as tests ask them: previewed, and run by their previews."""

import json
import uuid
from typing import Any

from app.base import exact_json
from tests.support.world import User, World, refused, written

QUERY = "/api/v1/orgs/{org}/query"


def path(user: User, rest: str) -> str:
    """The path of a route of queries."""
    return f"{QUERY.format(org=user.organization)}/{rest}"


async def previewed(user: User, query: Any) -> dict[str, Any]:
    """The preview of a question, numbers as Decimals."""
    return written(await user.post(path(user, "preview"), {"query": query}))


async def refused_preview(user: User, query: Any, status: int, code: str) -> dict[str, Any]:
    """The problem that a preview is refused with."""
    return refused(await user.post(path(user, "preview"), {"query": query}), status, code)


async def executed(user: User, preview: dict[str, Any], **more: Any) -> Any:
    """The response to a preview that is run."""
    body = {"previewId": preview["previewId"], "digest": preview["digest"]} | more
    return await user.post(path(user, "execute"), body)


async def answered(user: User, query: Any) -> dict[str, Any]:
    """What a question is answered, by way of its preview; numbers as Decimals."""
    response = await executed(user, await previewed(user, query))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = exact_json.decode(response.content)
    return answer


async def rows(user: User, query: Any) -> list[list[Any]]:
    """The values of its rows."""
    return [list(row.values()) for row in (await answered(user, query))["data"]]


async def join(world: World, child: str, parent: str, organization: str = "acme", most: int = 1) -> str:
    """An accepted join of `dataset.field,field` to another such, of a confidence of 0.9; `most`: how many of the child
    there were for one of the parent. Its id.
    """
    id_ = str(uuid.uuid4())
    (one, ones), (other, others) = (each.split(".") for each in (child, parent))
    statistics = json.dumps({"fanOut": {"average": most, "greatest": most}})
    await world.db.execute(
        "INSERT INTO dataset_join (organization_id, id, version, child, child_fields, parent, parent_fields, rationale,"
        " confidence, statistics, accepted_by, accepted_at)"
        " VALUES ($1, $2::text::uuid, 1, $3, $4, $5, $6, 'as the test has it', 0.9, $7, 'boss', now())",
        organization, id_, one, ones.split(","), other, others.split(","), statistics,
    )  # fmt: skip
    return id_
