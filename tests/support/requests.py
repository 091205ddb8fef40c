"""What tests of change requests ask for, in their words."""

from typing import Any

import httpx

from app.base import exact_json
from tests.support.sessions import begin
from tests.support.world import User, less_position, refused, written

Answer = dict[str, Any]


def told(response: httpx.Response, status: int = 200) -> Answer:
    """The body of an answer with this status."""
    assert response.status_code == status, response.text
    answer: Answer = exact_json.decode(response.content)
    return answer


async def drafted(user: User, *modifications: Answer, **more: Any) -> Answer:
    """A session of the user with these drafts in it."""
    session = await begin(user, **more)
    wanted = {"sessionId": session["id"], "modifications": list(modifications)}
    written(await user.post("drafts", wanted))
    return session


async def previewed(user: User, session: Answer) -> Answer:
    """What the session comes to."""
    return written(await user.post(f"sessions/{session['id']}/preview", {}))


async def submitted(user: User, *modifications: Answer, approvers: tuple[str, ...] = (), title: str = "Vans") -> Answer:
    """A change request of these drafts, from a session of its own."""
    session = await drafted(user, *modifications)
    seen = await previewed(user, session)
    body = {"title": title, "digest": seen["digest"], "approvers": list(approvers)}
    return written(await user.post(f"sessions/{session['id']}/submit", body), 201)


async def request(user: User, of: Answer) -> Answer:
    """A change request as it is now."""
    return less_position(told(await user.get(f"change-requests/{of['id']}")))


async def act(user: User, of: Answer, verb: str, **body: Any) -> httpx.Response:
    """POST something about a request, with the digest of now where one is due and none is given."""
    if verb in ("approve", "merge") and "digest" not in body:
        body["digest"] = (await request(user, of))["digest"]
    return await user.post(f"change-requests/{of['id']}/{verb}", body)


async def done(user: User, of: Answer, verb: str, **body: Any) -> Answer:
    """The same where it succeeds."""
    return written(await act(user, of, verb, **body), 201 if verb in ("revert", "comments") else 200)


async def merged(boss: User, of: Answer, **body: Any) -> Answer:
    """The answer to a merge, after the approval."""
    await done(boss, of, "approve")
    return await done(boss, of, "merge", **body)


async def not_merged(boss: User, of: Answer, status: int, code: str, **body: Any) -> Answer:
    """The refusal of a merge, after the approval."""
    await done(boss, of, "approve")
    return refused(await act(boss, of, "merge", **body), status, code)


async def cells(user: User, of: Answer) -> list[tuple[str, str | None, Any, Any]]:
    """What a request changes: (row, field, old, new)."""
    found = told(await user.get(f"change-requests/{of['id']}/diff"))["data"]
    return [(cell["id"], cell["field"], cell["old"], cell["new"]) for cell in found]
