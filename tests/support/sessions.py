"""What tests of edit sessions ask for, in their words."""

from typing import Any

from app.base import exact_json
from tests.support.world import User


async def begin(user: User, **more: Any) -> dict[str, Any]:
    """A new session; full_table unless said otherwise."""
    response = await user.post("sessions", {"mode": "full_table"} | more)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = exact_json.decode(response.content)
    return answer


async def shown(user: User, session_id: str) -> dict[str, Any]:
    """A session as it is now."""
    response = await user.get(f"sessions/{session_id}")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = exact_json.decode(response.content)
    return answer


async def edit(user: User, session: dict[str, Any], key: str, field: str, value: Any, **more: Any) -> dict[str, Any]:
    """The answer to one edit that was not refused."""
    wanted = {"id": key, "field": field, "value": value} | more
    response = await user.post(f"sessions/{session['id']}/edits", wanted)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = exact_json.decode(response.content)
    return answer


async def edits(user: User, session: dict[str, Any]) -> list[dict[str, Any]]:
    """The session's log, the oldest edit first."""
    response = await user.get(f"sessions/{session['id']}/edits", {"limit": 200})
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = exact_json.decode(response.content)["data"]
    return found


async def ended(user: User, session: dict[str, Any]) -> dict[str, Any]:
    """The answer to the session's abort."""
    response = await user.request("DELETE", f"sessions/{session['id']}")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = exact_json.decode(response.content)
    return answer
