"""What tests of edit sessions ask for, in their words."""

from typing import Any

from app.base import exact_json
from tests.support.world import User, less_position, written


async def begin(user: User, **more: Any) -> dict[str, Any]:
    """A new session; full_table unless said otherwise."""
    return written(await user.post("sessions", {"mode": "full_table"} | more), 201)


async def shown(user: User, session_id: str) -> dict[str, Any]:
    """A session as it is now."""
    response = await user.get(f"sessions/{session_id}")
    assert response.status_code == 200, response.text
    return less_position(exact_json.decode(response.content))


async def edit(user: User, session: dict[str, Any], key: str, field: str, value: Any, **more: Any) -> dict[str, Any]:
    """The answer to one edit that was not refused."""
    wanted = {"id": key, "field": field, "value": value} | more
    return written(await user.post(f"sessions/{session['id']}/edits", wanted))


async def edits(user: User, session: dict[str, Any]) -> list[dict[str, Any]]:
    """The session's log, the oldest edit first."""
    response = await user.get(f"sessions/{session['id']}/edits", {"limit": 200})
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = exact_json.decode(response.content)["data"]
    return found


async def ended(user: User, session: dict[str, Any]) -> dict[str, Any]:
    """The answer to the session's abort."""
    return written(await user.request("DELETE", f"sessions/{session['id']}"))
