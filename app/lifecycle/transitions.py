"""From one state to another: promote, deprecate, restore, roll back.

Each is one transaction, alone with all versions of the dataset. A dry run is the same, taken back in the end.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from asyncpg import Record
from msgspec.structs import replace

from app.base.errors import DatasetTransitionRefused, InvalidTransition
from app.base.statements import statement
from app.contract_versions.registry import add_transition, read_versions
from app.contracts import Contract
from app.contracts.states import DatasetState
from app.engine.audit import Act, Entry, record
from app.engine.datasets import base_of
from app.engine.desk import Desk
from app.engine.feed import EventType, tell
from app.engine.locks import lock_versions, read_dataset
from app.lifecycle.differences import Differences, compare_versions
from app.lifecycle.moves import Moved, commits_as_drafts, leave_commits, leave_edits, move_edits
from app.people import read_names

LOCK_REQUESTS = statement("lifecycle/lock_requests")
READ_STATES = statement("versions/read_states")
MOVE_STATE = statement("versions/move_state")
EXCHANGE = statement("versions/exchange")
FOLLOW_NAME = statement("versions/follow_name")
UNDO_PROMOTION = statement("versions/undo_promotion")
FIND_REGISTERED = statement("lifecycle/find_registered")
READ_PROMOTION = statement("versions/read_promotion")
RAISE_WORKSPACES = statement("versions/raise_workspaces")

UNDONE_WITHIN = timedelta(hours=24)

ACTS = {
    "promote": Act.DATASET_PROMOTED,
    "deprecate": Act.DATASET_DEPRECATED,
    "restore": Act.DATASET_RESTORED,
    "rollback": Act.DATASET_ROLLED_BACK,
}
FROM = {
    "promote": DatasetState.SHADOW,
    "deprecate": DatasetState.ACTIVE,
    "restore": DatasetState.DEPRECATED,
    "rollback": DatasetState.ACTIVE,
}


class Wanted(NamedTuple):
    """Who wants what, and why; `from_state`: only from there."""

    action: str
    user: str
    reason: str
    at: datetime
    from_state: str | None = None


class Place(NamedTuple):
    """A version where it stands: its address, contract and state."""

    name: str
    contract: Contract
    state: DatasetState
    major: int
    supersedes: int | None
    promoted_at: datetime | None
    deprecated_at: datetime | None


class Outcome(msgspec.Struct, kw_only=True, rename="camel"):
    """What became of the version: its address now, its version and state; `superseded`: the address of the version that
    it took the place of, or gave it back to. `differences` are those of a promotion; `moved` is what people had under
    way; `commits`: what was committed to the version before since this one was registered, or since a promotion
    that is rolled back, as drafts of its authors.
    """

    dataset: str
    version: str
    state: str
    superseded: str | None = None
    differences: Differences | None = None
    moved: Moved | None = None
    commits: Moved | None = None


async def carry_out(desk: Desk, wanted: Wanted) -> Outcome:
    """The transition of the desk's version, inside the caller's transaction.

    Raises InvalidTransition where it is in another state than `from_state`, or another version is in the way, and
    DatasetTransitionRefused where there is no such way from its state.
    """
    base = base_of(desk.contract.name)
    await desk.connection.rows(LOCK_REQUESTS, organization=desk.organization, dataset=base)
    await lock_versions(desk)
    places = await _places(desk)
    place = next((each for each in places if each.contract.schema == desk.contract.schema), None)
    if place is None:
        raise desk.not_set_up
    if wanted.from_state is not None and wanted.from_state != place.state:
        raise InvalidTransition(f"{place.name} is {place.state}, not {wanted.from_state}.", state=place.state.value)
    if place.state is not FROM[wanted.action]:
        raise DatasetTransitionRefused(
            f"{place.name} is {place.state}. To {wanted.action}, it has to be {FROM[wanted.action]}.",
            state=place.state.value,
        )
    match wanted.action:
        case "promote" | "restore":
            return await _named(desk, await _activate(desk, wanted, place, places))
        case "deprecate":
            await _move(desk, wanted, place, DatasetState.DEPRECATED)
            return _outcome(place.name, place, DatasetState.DEPRECATED)
        case _:
            return await _named(desk, await _roll_back(desk, wanted, place, places))


async def _named(desk: Desk, outcome: Outcome) -> Outcome:
    """The outcome with the names of those whose cells stay behind."""
    moved = [each for each in (outcome.moved, outcome.commits) if each is not None]
    people = {left.user for each in moved for left in each.left}
    names = await read_names(desk.connection, desk.organization, people)
    for each in moved:
        each.left = [replace(left, user_name=names[left.user]) for left in each.left]
    return outcome


async def _places(desk: Desk) -> list[Place]:
    """All versions; of a built-in dataset the one there is."""
    base = base_of(desk.contract.name)
    rows = await desk.connection.rows(READ_STATES, organization=desk.organization, base=base)
    if not desk.contract.own:
        return [_place(row, desk.contract) for row in rows]
    versions = await read_versions(desk.connection, desk.organization, base)
    current = {version.contract.schema: version.contract for version in versions if version.current}
    return [_place(row, current[row["schema_name"]]) for row in rows]


def _place(row: Record, contract: Contract) -> Place:
    return Place(
        row["name"], contract, DatasetState(row["state"]), row["major"], row["supersedes"], row["promoted_at"],
        row["deprecated_at"],
    )  # fmt: skip


def _outcome(name: str, place: Place, state: DatasetState) -> Outcome:
    return Outcome(dataset=name, version=place.contract.version, state=state.value)


async def _activate(desk: Desk, wanted: Wanted, place: Place, places: Sequence[Place]) -> Outcome:
    """The version takes the dataset's name; the one that has it gives it up."""
    base = base_of(place.name)
    used = next((each for each in places if each.name == base), None)
    promoted = wanted.action == "promote"
    active = next((each for each in places if each.state is DatasetState.ACTIVE), None)
    if active is not None and not promoted:
        raise InvalidTransition(
            f"{active.name} {active.contract.version} is ACTIVE, and only one version can be. Deprecate it first.",
            state=place.state.value,
        )
    if used is None or used.name == place.name:
        await _move(desk, wanted, place, DatasetState.ACTIVE, promoted=promoted)
        return _outcome(base, place, DatasetState.ACTIVE)
    # One that nobody used stays what it is: it was never promoted, or is out of use already.
    left = DatasetState.DEPRECATED if used.state is DatasetState.ACTIVE else used.state
    outcome = _outcome(base, place, DatasetState.ACTIVE)
    behind = await _registered_behind(desk, used, place)
    before, after = await _exchange(desk, wanted, used, place, DatasetState.ACTIVE, left, promoted=promoted)
    outcome.superseded = before.contract.name
    outcome.differences = await compare_versions(before, after)
    if behind is not None:
        outcome.commits = await commits_as_drafts(before, after, behind, wanted.at)
    outcome.moved = await move_edits(before, after, wanted.at)
    await _tell(after, wanted, place.state, DatasetState.ACTIVE, outcome)
    return outcome


async def _registered_behind(desk: Desk, used: Place, place: Place) -> int | None:
    """The revision of the version in use behind which commits may be missing in the other one. None where nobody has
    committed to it: it was never ACTIVE.
    """
    if used.state not in (DatasetState.ACTIVE, DatasetState.DEPRECATED):
        return None
    source = Desk(desk.connection, used.contract, desk.organization)
    return int(await source.value(FIND_REGISTERED, schema=place.contract.schema))


async def _roll_back(desk: Desk, wanted: Wanted, place: Place, places: Sequence[Place]) -> Outcome:
    """Undo a promotion: the version goes back to SHADOW, and the one before it is used again."""
    if place.promoted_at is None or wanted.at - place.promoted_at > UNDONE_WITHIN:
        raise DatasetTransitionRefused(
            f"{place.name} {place.contract.version} was not promoted within 24 hours; what was can be deprecated.",
            state=place.state.value,
        )
    promotion = await desk.connection.row(
        READ_PROMOTION, organization=desk.organization, base=base_of(place.name), major=place.major
    )
    before_it = next((each for each in places if each.major == place.supersedes), None)
    await desk.connection.value(
        UNDO_PROMOTION, organization=desk.organization, base=base_of(place.name), major=place.major, at=wanted.at
    )
    if before_it is None:
        await _move(desk, wanted, place, DatasetState.SHADOW)
        return _outcome(place.name, place, DatasetState.SHADOW)
    outcome = _outcome(f"{base_of(place.name)}@{place.major}", place, DatasetState.SHADOW)
    # It was put out of use by this promotion, or had been before.
    now = DatasetState.ACTIVE if before_it.deprecated_at == place.promoted_at else before_it.state
    left, again = await _exchange(desk, wanted, place, before_it, now, DatasetState.SHADOW, promoted=False)
    outcome.superseded = again.contract.name
    since = None if promotion is None else promotion["revision"]
    if since is not None and now is DatasetState.READ_ONLY:
        # Nobody ever commits there.
        outcome.commits = await leave_commits(left, since)
        outcome.moved = await leave_edits(left)
    elif since is not None:
        outcome.commits = await commits_as_drafts(left, again, since, wanted.at)
        outcome.moved = await move_edits(left, again, wanted.at)
    await _tell(again, wanted, DatasetState.ACTIVE, DatasetState.SHADOW, outcome, of=place)
    return outcome


async def _move(desk: Desk, wanted: Wanted, place: Place, state: DatasetState, *, promoted: bool = False) -> None:
    """To another state, where it is."""
    desk.contract = _called(place.contract, place.name) if desk.contract.own else desk.contract
    revision = await desk.value(
        MOVE_STATE, from_state=place.state, to_state=state, at=wanted.at, promoted=promoted, supersedes=None
    )
    await desk.rows(RAISE_WORKSPACES)
    await _tell(desk, wanted, place.state, state, _outcome(place.name, place, state), revision=revision)


async def _exchange(
    desk: Desk,
    wanted: Wanted,
    used: Place,
    beside: Place,
    now: DatasetState,
    left: DatasetState,
    *,
    promoted: bool,
) -> tuple[Desk, Desk]:
    """The version beside takes the name of the one that is used: desks at both afterwards."""
    base = used.name
    around = {"organization": desk.organization, "base": base, "beside": beside.name}
    await desk.connection.row(FOLLOW_NAME, **around)
    moved = await desk.connection.rows(EXCHANGE, **around, used=now, left=left, at=wanted.at, promoted=promoted)
    before = Desk(desk.connection, _called(used.contract, f"{base}@{used.major}"), desk.organization)
    after = Desk(desk.connection, _called(beside.contract, base), desk.organization)
    await after.rows(RAISE_WORKSPACES)
    aside, used_now = (next(row for row in moved if (row["name"] == base) is plain) for plain in (False, True))
    if wanted.action != "rollback" and left is not used.state:
        await _note(before, wanted, "deprecate", used.state, left, aside["revision"])
    if wanted.action == "rollback" and now is not beside.state:
        await _note(after, wanted, "restore", beside.state, now, used_now["revision"])
    tell(
        before,
        EventType.DATASET,
        wanted.at,
        actor=wanted.user,
        revision=aside["revision"],
        event="superseded",
        version=used.contract.version,
        state=left.value,
    )
    return before, after


async def _note(desk: Desk, wanted: Wanted, action: str, was: DatasetState, now: DatasetState, revision: int) -> None:
    """In the history of the other version, what became of it by this."""
    await add_transition(desk, action, was, now, wanted.user, wanted.reason, wanted.at, revision)


def _called(contract: Contract, name: str) -> Contract:
    return msgspec.structs.replace(contract, name=name)


async def _tell(
    desk: Desk,
    wanted: Wanted,
    was: DatasetState,
    now: DatasetState,
    outcome: Outcome,
    *,
    of: Place | None = None,
    revision: int | None = None,
) -> None:
    """History, audit, feed, metrics and log; `of`: the version that it is about, where that is not the desk's."""
    if revision is None:
        revision = (await read_dataset(desk)).revision
    about = desk if of is None else Desk(desk.connection, of.contract, desk.organization)
    await add_transition(about, wanted.action, was, now, wanted.user, wanted.reason, wanted.at, revision)
    details: dict[str, Any] = {"version": outcome.version, "from": was.value, "to": now.value}
    if outcome.superseded is not None:
        details["superseded"] = outcome.superseded
    await record(
        desk,
        Entry(at=wanted.at, actor=wanted.user, action=ACTS[wanted.action], reason=wanted.reason, details=details),
    )
    tell(
        desk,
        EventType.DATASET,
        wanted.at,
        actor=wanted.user,
        revision=revision,
        event=wanted.action,
        version=outcome.version,
        state=now.value,
    )
