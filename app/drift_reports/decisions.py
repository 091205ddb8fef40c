"""What people decide about a drift: it is accepted, columns are mapped, or it is rejected."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from app.base.errors import Code, Culprit, InvalidTransition, SchemaChanged, ValidationFailed
from app.base.settings import Settings
from app.base.statements import statement
from app.contract_versions.registry import hold_ingestion_ready, read_versions, register
from app.contracts import Contract, stored_contract
from app.contracts.comparison import BREAKING, Kind
from app.contracts.registration import read_registration, wire
from app.contracts.states import ReportState
from app.drift.detection import Source
from app.drift.evolution import Step, Unevolved, evolved
from app.drift.reports import MAPPABLE
from app.drift_reports.wire import no_report
from app.engine.audit import Act, Entry, record
from app.engine.datasets import base_of, version_of
from app.engine.desk import Desk
from app.engine.feed import EventType, tell
from app.organizations import lock_organization
from app.synchronization import request_run
from app.upstream.directory import KINDS

HOLD_REPORT = statement("drift/hold_report")
LIST_CHANGES = statement("drift/list_changes")
DECIDE_REPORT = statement("drift/decide_report")
DECIDE_CHANGES = statement("drift/decide_changes")
PUT_MAPPING = statement("drift/put_mapping")
NOTE_COLUMNS = statement("drift/note_columns")

NOWHERE = "own_0"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Who decides, and when."""

    user: str
    at: datetime
    settings: Settings


class Held(NamedTuple):
    """A report that is being decided on, and its changes."""

    id: uuid.UUID
    row: Any
    changes: list[Any]

    @property
    def undecided(self) -> list[Any]:
        """The changes that nobody has decided on."""
        return [change for change in self.changes if change["decision"] is None]


async def hold(desk: Desk, id_: uuid.UUID) -> Held:
    """The report, which nobody else decides on meanwhile; raises DriftReportNotFound, InvalidTransition."""
    base = base_of(desk.contract.name)
    row = await desk.connection.row(HOLD_REPORT, organization=desk.organization, base=base, id=id_)
    if row is None:
        raise no_report(desk, str(id_))
    if row["state"] != ReportState.OPEN:
        raise InvalidTransition(f"The report is {row['state']}. Nobody decides on it again.", state=row["state"])
    changes = await desk.connection.rows(LIST_CHANGES, organization=desk.organization, id=id_)
    return Held(id_, row, list(changes))


async def accept(desk: Desk, id_: uuid.UUID, by: Decision) -> None:
    """What came counts from now on. Of a dataset of one's own that makes a version, at once where it is compatible,
    else in SHADOW; of a built-in one, which organizations share, fields that are gone or otherwise are null here. What
    was mapped before is read from its column, in every version.

    Raises what `hold` does, ValidationFailed, SchemaChanged, and what registering raises.
    """
    if desk.contract.own:
        # Before the report: so registering does, and locks have one order.
        await hold_ingestion_ready(desk.connection)
        await lock_organization(desk.connection, desk.organization)
    held = await hold(desk, id_)
    made = await (_make_version(desk, held, by) if desk.contract.own else _make_null(desk, held, by))
    await _put_mappings(desk, held, by)
    await desk.connection.rows(
        DECIDE_CHANGES, organization=desk.organization, id=id_, places=None, decision="accepted", name=None
    )
    await _settle(desk, held, ReportState.ACCEPTED, by, made=made)
    if not desk.contract.own:
        await _pull_anew(desk, held, by)


async def map_field(desk: Desk, id_: uuid.UUID, from_: str, to: str, by: Decision) -> None:
    """A field is read from another column. With the last change that holds the pull, all that was mapped counts.

    Raises what `hold` does, ValidationFailed.
    """
    held = await hold(desk, id_)
    change = next((each for each in held.undecided if _is_about(each, from_)), None)
    if change is None:
        raise _refused("from", f"No change that is open is about {from_[:80]!r}: {_known(held)}.")
    to = _column(held, to)
    taken = next((each for each in held.changes if each["decision"] == "mapped" and each["now"] == to), None)
    if taken is not None and taken["field"] != change["field"] and taken["kind"] in MAPPABLE:
        raise _refused("to", f"{to} is what {taken['field']} is read from already.")
    places = [change["place"], *(each["place"] for each in held.undecided if _is_new(each, to))]
    await desk.connection.rows(
        DECIDE_CHANGES, organization=desk.organization, id=id_, places=places, decision="mapped", name=to
    )
    changes = await desk.connection.rows(LIST_CHANGES, organization=desk.organization, id=id_)
    held = held._replace(changes=list(changes))
    if any(each["severity"] == BREAKING for each in held.undecided):
        told = {"report": str(id_), "field": change["field"], "column": to}
        await record(desk, Entry(at=by.at, actor=by.user, action=Act.DRIFT_MAPPED, details=told))
        return
    await _put_mappings(desk, held, by)
    await _settle(desk, held, ReportState.MAPPED, by)
    if not desk.contract.own:
        await _pull_anew(desk, held, by)


async def reject(desk: Desk, id_: uuid.UUID, reason: str, by: Decision) -> None:
    """What came stays outside: whoever sends it has to mend it. Raises what `hold` does."""
    await _settle(desk, await hold(desk, id_), ReportState.REJECTED, by, reason=reason)


# -- a built-in dataset ------------------------------------------------------------------------------------------------


async def _make_null(desk: Desk, held: Held, by: Decision) -> None:
    fields = [change["field"] for change in held.undecided if change["kind"] in MAPPABLE]
    needed = {*desk.contract.key_fields, *_needed(desk.contract)}
    if kept := [field for field in fields if field in needed]:
        raise _refused("report", f"{kept[0]} cannot be null: rows are known by it. Map it, or reject the report.")
    for field in fields:
        await _put(desk, held, field, 0, None, by)


def _needed(contract: Contract) -> frozenset[str]:
    kind = KINDS.get(contract.upstream or "")
    return frozenset() if kind is None else kind.needs


async def _put_mappings(desk: Desk, held: Held, by: Decision) -> None:
    changes = await desk.connection.rows(LIST_CHANGES, organization=desk.organization, id=held.id)
    mapped = [change for change in changes if change["decision"] == "mapped" and change["kind"] in MAPPABLE]
    ids = await _field_ids(desk, held) if mapped else {}
    for change in mapped:
        await _put(desk, held, change["field"], ids.get(change["field"]) or 0, change["mapped_to"], by)


async def _field_ids(desk: Desk, held: Held) -> dict[str, int | None]:
    """The ids of fields, by their names in the version that the report is about. A built-in dataset has none."""
    if not desk.contract.own:
        return {}
    versions = await read_versions(desk.connection, desk.organization, base_of(desk.contract.name))
    about = next((each.contract for each in versions if each.contract.version == held.row["version"]), desk.contract)
    return {field.name: field.id for field in about.fields}


async def _put(desk: Desk, held: Held, field: str, field_id: int, name: str | None, by: Decision) -> None:
    await desk.connection.value(
        PUT_MAPPING, organization=desk.organization, base=base_of(desk.contract.name), field=field, field_id=field_id,
        name=name, report_id=held.id, user=by.user, at=by.at,
    )  # fmt: skip


async def _pull_anew(desk: Desk, held: Held, by: Decision) -> None:
    """Everything is read again, as it counts now, however many rows that changes: somebody has decided so."""
    if held.row["source"] != Source.PULL:
        return
    if held.row["columns"] is not None:
        await desk.value(NOTE_COLUMNS, columns=list(held.row["columns"]))
    await request_run(desk, "pull", by.user, by.at, full=True, allow=("changes",))


# -- a dataset of one's own --------------------------------------------------------------------------------------------


async def _make_version(desk: Desk, held: Held, by: Decision) -> str:
    if held.row["version"] != desk.contract.version:
        raise SchemaChanged(
            f"The report is about version {held.row['version']}, and {desk.contract.name} has {desk.contract.version} "
            "by now. Look for drift once more."
        )
    contract = desk.contract
    document = _document(contract, held)
    major, minor = version_of(contract.version)
    compatible = all(change["severity"] == "COMPATIBLE" for change in held.undecided)
    version = f"{major}.{minor + 1}"
    if not compatible:
        versions = await read_versions(desk.connection, desk.organization, base_of(contract.name))
        version = f"{max((each.numbers[0] for each in versions), default=major) + 1}.0"
    document |= {"name": base_of(contract.name), "version": version}
    read = read_registration(document, schema=NOWHERE)
    made = await register(desk.connection, desk.organization, read, by.user, by.at, by.settings)
    return made.contract.version


def _document(contract: Contract, held: Held) -> dict[str, Any]:
    if held.row["schema"] is not None:
        shown = stored_contract(held.row["schema"], schema=NOWHERE, name=base_of(contract.name))
        return {name: value for name, value in wire(shown).items() if name != "schema"}
    steps = [
        Step(kind=Kind(each["kind"]), path=each["path"], field=each["field"], old=each["old"], new=each["new"])
        for each in held.undecided
    ]
    try:
        return evolved(contract, steps)
    except Unevolved as error:
        raise _refused("report", str(error)) from None


# -- all of them -------------------------------------------------------------------------------------------------------


async def _settle(
    desk: Desk, held: Held, state: ReportState, by: Decision, *, reason: str | None = None, made: str | None = None
) -> None:
    await desk.connection.value(
        DECIDE_REPORT, organization=desk.organization, id=held.id, state=state, user=by.user, at=by.at, reason=reason,
        made_version=made,
    )  # fmt: skip
    act = {
        ReportState.ACCEPTED: Act.DRIFT_ACCEPTED,
        ReportState.MAPPED: Act.DRIFT_MAPPED,
        ReportState.REJECTED: Act.DRIFT_REJECTED,
    }[state]
    told = {"report": str(held.id)} | ({} if made is None else {"version": made})
    await record(desk, Entry(at=by.at, actor=by.user, action=act, reason=reason, details=told))
    tell(
        desk, EventType.DATASET, by.at, actor=by.user,
        event="drift", report=str(held.id), severity=held.row["severity"], state=state,
    )  # fmt: skip


def _is_about(change: Any, name: str) -> bool:
    return bool(change["kind"] in MAPPABLE and name in (change["field"], change["was"]))


def _is_new(change: Any, column: str) -> bool:
    return bool(change["kind"] == Kind.ADD and change["now"] == column)


def _known(held: Held) -> str:
    names = [change["field"] for change in held.undecided if change["kind"] in MAPPABLE]
    return f"there are {', '.join(names[:10])}" if names else "there is none"


def _column(held: Held, to: str) -> str:
    columns: Sequence[str] = held.row["columns"] or ()
    found = next((name for name in columns if name == to), None)
    found = found or next((name for name in columns if name.lower() == to.lower()), None)
    if found is None:
        raise _refused("to", f"No column that came and is no other field's is called {to[:80]!r}.")
    return found


def _refused(parameter: str, message: str) -> ValidationFailed:
    return ValidationFailed(message, errors=[Culprit(code=Code.INVALID_VALUE, parameter=parameter, message=message)])
