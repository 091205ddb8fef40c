"""What an ADMIN decides: a candidate is accepted, a join deprecated."""

import uuid
from datetime import datetime

import msgspec
import structlog
from prometheus_client import Counter

from app.base.database import Connection
from app.base.errors import (
    AlreadyExists,
    InvalidCandidate,
    InvalidTransition,
    JoinNotFound,
    NotUnique,
    QuotaExceeded,
)
from app.base.seals import seal, unsealed
from app.base.settings import Settings
from app.base.statements import statement
from app.engine.audit import Act, Entry, record_in
from app.engine.desk import Desk
from app.engine.locks import read_dataset
from app.joins.candidates import LEAST, Pair, Parent, Side, can_be_probed, judged, parents_of
from app.joins.sampling import probe_whole, profile, profile_whole
from app.joins.texts import can_join, compatible, is_id
from app.joins.wire import (
    AcceptedAnswer,
    Candidate,
    JoinAnswer,
    JoinWarning,
    join_of,
)
from app.organizations import lock_organization

log = structlog.get_logger(__name__)

READ_JOIN = statement("joins/read_join")
COUNT_JOINS = statement("joins/count_joins")
ADD_JOIN = statement("joins/add_join")
DEPRECATE_JOIN = statement("joins/deprecate_join")

JOINS = Counter("vanguard_joins_total", "Joins that were accepted or deprecated", ["act"])

KIND = b"vanguard join candidate"
ALL_ROWS = 1_000_000  # of a child that are all probed before a join is accepted; of a larger one a sample is
NULLS, FAN_OUT = 0.1, 100  # above which a join is accepted with a warning


class Named(msgspec.Struct, frozen=True, array_like=True):
    """What a candidate's id says."""

    organization: str
    child: str
    child_fields: tuple[str, ...]
    parent: str
    parent_fields: tuple[str, ...]


class Deciding(msgspec.Struct, frozen=True, kw_only=True):
    """Who decides, in which organization, and when."""

    organization: str
    user: str
    at: datetime
    settings: Settings


# -- the ids of candidates ---------------------------------------------------------------------------------------------


def candidate_id(secret: str, named: Named) -> str:
    """The id of a candidate: sealed, so that what is accepted was suggested; the same whenever it is."""
    return seal(secret, KIND, msgspec.json.encode(named))


def read_candidate_id(secret: str, organization: str, text: str) -> Named:
    """What a candidate's id names; raises InvalidCandidate, for one of another organization, too."""
    content = unsealed(secret, KIND, text)
    named = None if content is None else msgspec.json.decode(content, type=Named)
    if named is None or named.organization != organization:
        raise InvalidCandidate("The candidate was not suggested here. Take its id from the list of candidates.")
    return named


# -- accepting ---------------------------------------------------------------------------------------------------------


async def accept(child: Desk, parent: Desk, named: Named, rationale: str, by: Deciding) -> AcceptedAnswer:
    """Measure the candidate anew and keep it as a join; inside the caller's transaction.

    Raises InvalidCandidate, NotUnique, SchemaChanged, AlreadyExists, QuotaExceeded.
    """
    candidate = await _measured(child, parent, named)
    await lock_organization(child.connection, by.organization)
    for desk in (child, parent):
        await read_dataset(desk)  # measuring takes a while
    there = await child.connection.row(
        COUNT_JOINS, organization=by.organization, child=named.child, child_fields=list(named.child_fields),
        parent=named.parent, parent_fields=list(named.parent_fields),
    )  # fmt: skip
    assert there is not None, "counts always come"
    if there["same"] is not None:
        raise AlreadyExists(f"{candidate.condition} is accepted already.", join=str(there["same"]))
    if there["accepted"] >= by.settings.max_joins:
        raise QuotaExceeded(
            f"The organization has {by.settings.max_joins:,} accepted joins, as many as it may have "
            "(VANGUARD_MAX_JOINS). Deprecate those that nobody uses."
        )
    id_, version = uuid.uuid4(), there["version"] + 1
    await child.connection.value(
        ADD_JOIN, organization=by.organization, id=id_, version=version, child=named.child,
        child_fields=list(named.child_fields), parent=named.parent, parent_fields=list(named.parent_fields),
        rationale=rationale, confidence=candidate.confidence, statistics=msgspec.to_builtins(candidate.statistics),
        user=by.user, at=by.at,
    )  # fmt: skip
    told = {"join": str(id_), "version": version, "condition": candidate.condition}
    entry = Entry(at=by.at, actor=by.user, action=Act.JOIN_ACCEPTED, reason=rationale, details=told)
    await record_in(child.connection, by.organization, named.child, entry)
    JOINS.labels("accepted").inc()
    log.info("join accepted", organization=by.organization, join=str(id_), condition=candidate.condition)
    row = await child.connection.row(READ_JOIN, organization=by.organization, id=id_)
    return AcceptedAnswer(**join_of(row), warnings=_warnings(candidate))


async def _measured(child: Desk, parent: Desk, named: Named) -> Candidate:
    """The candidate as it is now: of all rows, unless the child has too many."""
    pair = Pair(child_fields=named.child_fields, parent_fields=named.parent_fields)
    _check_fields(child, parent, pair)
    sides = Side(desk=child, profile=await profile(child)), Side(desk=parent, profile=await profile(parent))
    if not sides[1].profile.rows:
        raise InvalidCandidate(f"{named.parent} has no rows by now.")
    to = next((each for each in parents_of(sides[1]) if each.fields == pair.parent_fields), None)
    to = to or Parent(fields=pair.parent_fields, declared=False, why="as far as was seen")
    if not can_be_probed(sides[1], to.fields):
        raise InvalidCandidate(
            f"{named.parent} has many rows, and {', '.join(to.fields)} has no index there: give it a hot sort, or a "
            "rule `unique`."
        )
    if not is_id(parent.contract, to.fields):
        values = await profile_whole(parent, to.fields)
        if values is not None and values.different < values.filled:
            raise _not_unique(named, values.filled - values.different)
    sampled = sides[0].profile
    extent, probed = await probe_whole(child, sampled.extent, pair.child_fields, parent, to.fields, ALL_ROWS)
    if probed is None or not probed.different:
        raise InvalidCandidate(f"{named.child} has no values of {', '.join(pair.child_fields)} by now.")
    if probed.found < LEAST * probed.different:
        raise InvalidCandidate(
            f"{probed.found:,} of {probed.different:,} values of {', '.join(pair.child_fields)} are in {named.parent} "
            f"by now: a candidate has at least {LEAST:.0%}."
        )
    counted = Side(desk=child, profile=msgspec.structs.replace(sampled, extent=extent))
    return judged(counted, sides[1], to, pair, probed)


def _check_fields(child: Desk, parent: Desk, pair: Pair) -> None:
    """Raises InvalidCandidate where a version since has other fields."""
    for one, other in zip(pair.child_fields, pair.parent_fields, strict=True):
        mine, theirs = child.contract.by_name.get(one), parent.contract.by_name.get(other)
        if mine is None or theirs is None or not compatible(mine, theirs):
            raise InvalidCandidate(f"{one} and {other} are no fields that can be joined, in the versions in use.")
        if not can_join(mine) and mine.name != child.contract.id_field:
            raise InvalidCandidate(f"{one} is no field that can be joined, in the version in use.")


def _not_unique(named: Named, more: int) -> NotUnique:
    told = f"{named.parent}.{', '.join(named.parent_fields)}"
    return NotUnique(
        f"{told} is not unique: {more:,} rows have a value that another one has. Rows of {named.child} would be "
        "multiplied. Join the other way round, or make it unique."
    )


def _warnings(candidate: Candidate) -> list[JoinWarning]:
    found, child = [], candidate.child
    statistics, told = candidate.statistics, f"{child.dataset}.{', '.join(child.fields)}"
    if statistics.null_share > NULLS:
        message = f"{statistics.null_share:.1%} of the rows have no {told}: an inner join leaves them out."
        found.append(JoinWarning(type="NULLS", message=message))
    if statistics.fan_out.greatest > FAN_OUT:
        message = f"One row of {candidate.parent.dataset} has up to {statistics.fan_out.greatest:,} of {child.dataset}."
        found.append(JoinWarning(type="FAN_OUT", message=message))
    return found


# -- reading and deprecating -------------------------------------------------------------------------------------------


async def read_join(connection: Connection, organization: str, text: str) -> JoinAnswer:
    """The join; raises JoinNotFound."""
    row = await connection.row(READ_JOIN, organization=organization, id=_id_of(text))
    if row is None:
        raise _no_join(text)
    return JoinAnswer(**join_of(row))


async def deprecate(connection: Connection, text: str, reason: str, by: Deciding) -> JoinAnswer:
    """No query takes the join any more; inside the caller's transaction. Raises JoinNotFound, InvalidTransition."""
    id_ = _id_of(text)
    row = await connection.row(
        DEPRECATE_JOIN, organization=by.organization, id=id_, reason=reason, user=by.user, at=by.at
    )
    found = await read_join(connection, by.organization, text)
    if row is None:
        raise InvalidTransition("The join is deprecated already.", state=found.state)
    told = {"join": str(id_), "version": found.version, "condition": found.condition}
    entry = Entry(at=by.at, actor=by.user, action=Act.JOIN_DEPRECATED, reason=reason, details=told)
    await record_in(connection, by.organization, found.child.dataset, entry)
    JOINS.labels("deprecated").inc()
    log.info("join deprecated", organization=by.organization, join=str(id_), condition=found.condition)
    return found


def _id_of(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise _no_join(text) from None


def _no_join(text: str) -> JoinNotFound:
    return JoinNotFound(f"There is no join {text[:80]!r} here.")
