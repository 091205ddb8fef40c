"""What a worker leaves behind in the tables, for tests of those who read it."""

import uuid
from datetime import datetime, timedelta
from typing import Any

from app.base import exact_json
from app.base.database import Connection
from app.contracts import PFA
from app.engine.desk import Desk
from app.engine.feed import EventType, tell_rows
from app.engine.locks import raise_revision
from app.engine.modifications import fold, image
from app.web.auth import Role
from tests.support.world import User, World


async def connect(world: World, organization: str = "acme", **more: Any) -> None:
    """A worker is configured for the organization's pfa."""
    await _insert(
        world,
        "public.synchronization",
        organization_id=organization, dataset="pfa", pull_every=900, full_every=86400,
        **{"next_pull_at": world.clock()} | more,
    )  # fmt: skip


async def begin_session(world: World, user: User, session_id: str, **more: Any) -> None:
    """An open session of the user, good for a day."""
    given = {
        "organization_id": user.organization, "id": session_id, "dataset": user.dataset, "user_id": user.id,
        "mode": "full_table", "created_at": world.clock(), "expires_at": world.clock() + timedelta(days=1),
    }  # fmt: skip
    await _insert(world, "public.edit_session", **given | more)


async def log_edit(
    world: World, user: User, session_id: str, key: str, field: str, value: Any, *, held: bool, step: int = 1
) -> None:
    """An entry in the log of a session's edits, as its last one."""
    await _insert(
        world,
        f"{world.runtime.datasets.built_in[user.dataset].schema}.edit",
        organization_id=user.organization, session_id=session_id, user_id=user.id, step=step, row_key=key,
        field=field, value=exact_json.encode(value).decode(), held=held, at=world.clock(),
    )  # fmt: skip


async def add_run(world: World, kind: str = "pull", state: str = "succeeded", **more: Any) -> str:
    """A run, requested now unless said otherwise, and in that moment begun and ended, as its state wants; its id."""
    given = {"organization_id": "acme", "id": str(uuid.uuid4()), "dataset": "pfa", "requested_at": world.clock()} | more
    if state != "requested":
        given = {"started_at": given["requested_at"]} | given
    if state in ("succeeded", "failed"):
        given = {"finished_at": given["started_at"]} | given
    if state == "failed":
        given = {"error_code": "INTERNAL_ERROR"} | given
    await _insert(world, "public.sync_run", kind=kind, state=state, **given)
    return str(given["id"])


async def quarantine(world: World, key: str, received: Any, *reasons: dict[str, Any], **more: Any) -> None:
    """A row that could not be taken."""
    given = {"organization_id": "acme", "dataset": "pfa", "run_id": uuid.uuid4()} | more
    await _insert(
        world,
        "public.quarantine",
        row_key=key, received=exact_json.encode(received).decode(), reasons=exact_json.encode(reasons).decode(),
        **{"first_seen_at": world.clock(), "last_seen_at": world.clock()} | given,
    )  # fmt: skip


async def settle(world: World, key: str, state: str, error: str | None = None, organization: str = "acme") -> None:
    """The committed changes of a row end in this state, and everybody's modifications of the row with them."""
    await world.db.execute(
        "UPDATE pfa.change SET state = $2, last_error = $3, attempts = 3, settled_at = $4"
        " WHERE organization_id = $5 AND row_key = $1 AND state = 'committed'",
        key, state, error, world.clock(), organization,
    )  # fmt: skip

    async def follow(connection: Connection) -> None:
        desk = Desk(connection, PFA, organization)
        revision = await raise_revision(desk)
        await fold(desk, None, [key])
        await image(desk, None, [key])
        tell_rows(desk, EventType.PUSH, [key], world.clock(), revision=revision)

    await world.runtime.database.run(follow)


async def settled_changes(
    world: World, number: int, state: str, at: datetime | None, organization: str = "acme"
) -> None:
    """So many changes that a push has settled, or that wait for one."""
    await world.db.execute(
        "INSERT INTO pfa.change (organization_id, row_key, user_id, op, base, delta, state, settled_at, created_at,"
        "                        claim_id, lease_until)"
        " SELECT 'acme', 'R' || i, 'ann', 'update', '{}', '{}', $1, $2, $3, $5, $6 FROM generate_series(1, $4) AS i",
        state, at, world.clock(), number, *((uuid.uuid4(), world.clock()) if state == "syncing" else (None, None)),
    )  # fmt: skip


async def engineer(world: World, organization: str = "acme") -> User:
    """Somebody who may synchronize."""
    return await world.user(f"erin-of-{organization}", organization, Role.ENGINEER)


async def _insert(world: World, table: str, **values: Any) -> None:
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await world.db.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", *values.values())
