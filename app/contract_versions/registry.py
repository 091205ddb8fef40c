"""The registry of contracts: how an organization's own dataset comes to be, and how its versions follow each other.

A contract is registered in one transaction, with its schema. The first one of a name makes the dataset, in SHADOW. A
compatible one is the next minor version, applied in place; any other is a new major version in a schema of its own,
in SHADOW beside the one in use.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import structlog
from asyncpg import Record
from prometheus_client import Counter

from app.base import exact_json
from app.base.database import Connection
from app.base.errors import (
    AlreadyExists,
    Code,
    ContractNotFound,
    QuotaExceeded,
    SystemReadOnly,
    VersionInUse,
)
from app.base.settings import Settings
from app.base.statements import statement
from app.contracts import BUILT_IN, Contract, stored_contract
from app.contracts.bounds import refuse_any
from app.contracts.comparison import compare, may_apply
from app.contracts.field_ids import with_ids
from app.contracts.registration import wire_of
from app.contracts.soundness import Problem
from app.contracts.states import DatasetState, ReportState, SystemMode
from app.engine.audit import Act, Entry, record
from app.engine.datasets import base_of, version_of
from app.engine.desk import Desk
from app.engine.feed import EventType, tell
from app.engine.locks import lock_versions, read_only
from app.engine.storage import Made, drop_storage, image_all, make_storage
from app.organizations import lock_organization

log = structlog.get_logger(__name__)

NEXT_SCHEMA = statement("versions/next_schema")
COUNT_OWN = statement("versions/count_own")
LIST_VERSIONS = statement("versions/list_versions")
ADD_DATASET = statement("versions/add_dataset")
ADD_CONTRACT = statement("versions/add_contract")
ADVANCE_DATASET = statement("versions/advance_dataset")
RAISE_WORKSPACES = statement("versions/raise_workspaces")
ADD_TRANSITION = statement("versions/add_transition")
FIND_USES = statement("versions/find_uses")
REMOVE_CONTRACT = statement("versions/remove_contract")
EMPTY_RECEIVED = statement("versions/empty_received")
REOPEN_REPORTS = statement("drift/reopen_reports")
HOLD_MODE = statement("system_mode/hold_mode")

FIRST = "1.0"
BUILT_IN_NAMES = frozenset(contract.name for contract in BUILT_IN)

REGISTERED = Counter("vanguard_contracts_registered_total", "Contracts that were registered, by kind", ["kind"])


class Version(NamedTuple):
    """A registered contract and where it stands: `address` of its major version, `state`, None once that is gone;
    `current`: the newest of its major version.
    """

    contract: Contract
    address: str | None
    state: DatasetState | None
    current: bool
    changes: list[dict[str, Any]]
    registered_by: str
    registered_at: str

    @property
    def numbers(self) -> tuple[int, int]:
        """Major and minor number."""
        return version_of(self.contract.version)


class Registered(NamedTuple):
    """What was registered: the contract under its address, its state, and what is new in it."""

    contract: Contract
    state: DatasetState
    changes: list[dict[str, Any]]


async def hold_ingestion_ready(connection: Connection) -> None:
    """Raises SystemReadOnly where the system takes no contracts and records; it stays as it is until the end."""
    mode = await connection.value(HOLD_MODE)
    if mode != SystemMode.INGESTION_READY:
        raise SystemReadOnly(
            "The system is READ_ONLY: it takes no contracts, and no records. An operator changes that: "
            "PUT /api/v1/system/mode."
        )


async def read_versions(connection: Connection, organization: str, dataset: str) -> list[Version]:
    """All that was registered under a name, the newest first; nothing where nothing was."""
    rows = await connection.rows(LIST_VERSIONS, organization=organization, base=dataset)
    return [_version(dataset, row) for row in rows]


def _version(dataset: str, row: Record) -> Version:
    return Version(
        contract=stored_contract(row["document"], schema=row["schema_name"], name=row["name"] or dataset),
        address=row["name"],
        state=None if row["state"] is None else DatasetState(row["state"]),
        current=bool(row["current"]),
        changes=row["changes"],
        registered_by=row["registered_by"],
        registered_at=row["registered_at"],
    )


def pick_version(versions: Sequence[Version], version: str) -> Version:
    """The one of this number; raises ContractNotFound."""
    for found in versions:
        if found.contract.version == version:
            return found
    known = ", ".join(each.contract.version for each in versions) or "none"
    raise ContractNotFound(f"There is no version {version[:20]!r}; there are: {known}.")


async def register(
    connection: Connection, organization: str, contract: Contract, user: str, at: datetime, settings: Settings
) -> Registered:
    """Register a contract, with its schema, inside the caller's transaction, on a connection that may make schemas.

    Raises SystemReadOnly, DatasetReadOnly, ValidationFailed, AlreadyExists, QuotaExceeded.
    """
    await hold_ingestion_ready(connection)
    await lock_organization(connection, organization)
    if contract.name in BUILT_IN_NAMES:
        raise AlreadyExists(f"{contract.name} is a built-in dataset. Call yours otherwise.")
    before = await _read_locked(connection, organization, contract)
    if any(version.contract.version == contract.version for version in before):
        raise AlreadyExists(f"{contract.name} {contract.version} is registered already. A contract never changes.")
    major = version_of(contract.version)[0]
    peer = next((version for version in before if version.numbers[0] == major), None)
    latest = peer or next(iter(before), None)
    highest = max((field.id or 0 for version in before for field in version.contract.fields), default=0)
    contract = with_ids(contract, None if latest is None else latest.contract, highest=highest)
    changes = await _check_changes(connection, organization, contract, latest, in_place=peer is not None)
    await _check_quota(connection, organization, contract, None if peer is None else peer.contract, settings)
    if peer is not None:
        address = peer.address or contract.name
        contract = msgspec.structs.replace(contract, schema=peer.contract.schema, name=address)
        return await _apply(Desk(connection, contract, organization), peer, changes, user, at)
    address = contract.name if latest is None else f"{contract.name}@{major}"
    schema = await connection.value(NEXT_SCHEMA)
    contract = msgspec.structs.replace(contract, schema=schema, name=address)
    return await _begin(Desk(connection, contract, organization), changes, user, at)


async def _read_locked(connection: Connection, organization: str, contract: Contract) -> list[Version]:
    """All versions of the contract's dataset. Where one of them is to be changed in place, nobody promotes it, or rolls
    it back, between here and there.
    """
    before = await read_versions(connection, organization, contract.name)
    major = version_of(contract.version)[0]
    peer = next((version for version in before if version.numbers[0] == major), None)
    if peer is None:
        return before
    await lock_versions(Desk(connection, peer.contract, organization))
    return await read_versions(connection, organization, contract.name)


async def _check_changes(
    connection: Connection, organization: str, contract: Contract, latest: Version | None, *, in_place: bool
) -> list[dict[str, Any]]:
    """What is new since the version before; raises ValidationFailed where that cannot be the next one."""
    if latest is None:
        if contract.version != FIRST:
            message = f"The first version of a contract is {FIRST}, not {contract.version}."
            refuse_any([Problem("version", Code.INVALID_VERSION, message)])
        return []
    if contract.read_only and not in_place:
        message = (
            "A dataset that people write nothing to has no second major version: nobody could promote it. Leave out "
            "readOnly, or call the dataset otherwise."
        )
        refuse_any([Problem("readOnly", Code.INVALID_VERSION, message)])
    comparison = compare(latest.contract, contract)
    empty = in_place and await _is_empty(connection, organization, latest.contract)
    refuse_any(may_apply(comparison, contract.version, fits=empty))
    found: list[dict[str, Any]] = msgspec.to_builtins(comparison.changes)
    return found


async def _is_empty(connection: Connection, organization: str, contract: Contract) -> bool:
    uses = await Desk(connection, contract, organization).row(FIND_USES)
    return uses is not None and not uses["rows"]


async def _check_quota(
    connection: Connection, organization: str, contract: Contract, instead: Contract | None, settings: Settings
) -> None:
    found = await connection.row(COUNT_OWN, organization=organization)
    assert found is not None, "a count returns its row"
    if instead is None and found["datasets"] >= settings.max_datasets:
        raise QuotaExceeded(
            f"The organization has {found['datasets']} datasets, versions in SHADOW and DEPRECATED ones included; it "
            f"may have {settings.max_datasets} (VANGUARD_MAX_DATASETS). Delete a version in SHADOW that nobody needs."
        )
    fields = found["fields"] + len(contract.fields) - (0 if instead is None else len(instead.fields))
    if fields > settings.max_dataset_fields:
        raise QuotaExceeded(
            f"The organization's datasets would have {fields:,} fields; they may have "
            f"{settings.max_dataset_fields:,} (VANGUARD_MAX_DATASET_FIELDS)."
        )


async def _begin(desk: Desk, changes: list[dict[str, Any]], user: str, at: datetime) -> Registered:
    """A new major version, in SHADOW; or READ_ONLY, where people write nothing to it."""
    contract = desk.contract
    major = version_of(contract.version)[0]
    state = DatasetState.READ_ONLY if contract.read_only else DatasetState.SHADOW
    await desk.value(
        ADD_DATASET, version=contract.version, major=major, schema=contract.schema, state=state, owner=user
    )
    made = await make_storage(desk.connection, contract)
    await _keep(desk, changes, made, user, at)
    await add_transition(desk, "register", None, state, user, None, at)
    REGISTERED.labels("dataset" if major == 1 else "major").inc()
    return Registered(contract, state, changes)


async def _apply(desk: Desk, before: Version, changes: list[dict[str, Any]], user: str, at: datetime) -> Registered:
    """The next minor version, in place, under lock 1 against everybody: who writes waits, and finds it afterwards."""
    contract = desk.contract
    assert before.state is not None, "a version that can be followed is there"
    if before.state is DatasetState.DEPRECATED:
        raise read_only(desk, before.state)
    made = await make_storage(desk.connection, contract)
    await desk.rows(RAISE_WORKSPACES)
    if made.remade:
        await image_all(desk)
    revision = await desk.value(ADVANCE_DATASET, version=contract.version)
    await _keep(desk, changes, made, user, at, revision=revision)
    REGISTERED.labels("minor").inc()
    return Registered(contract, before.state, changes)


async def _keep(
    desk: Desk, changes: Sequence[Mapping[str, Any]], made: Made, user: str, at: datetime, revision: int | None = None
) -> None:
    contract = desk.contract
    base = base_of(contract.name)
    major, minor = version_of(contract.version)
    document = exact_json.encode(wire_of(msgspec.structs.replace(contract, name=base))).decode()
    await desk.connection.value(
        ADD_CONTRACT,
        organization=desk.organization,
        base=base,
        major=major,
        minor=minor,
        schema=contract.schema,
        document=document,
        fields=len(contract.fields),
        changes=list(changes),
        storage=made.digest,
        user=user,
        at=at,
    )
    details = {"version": contract.version}
    await record(desk, Entry(at=at, actor=user, action=Act.CONTRACT_REGISTERED, details=details))
    tell(desk, EventType.DATASET, at, actor=user, revision=revision, event="registered", version=contract.version)
    log.info("contract registered", organization=desk.organization, dataset=contract.name, version=contract.version)


async def add_transition(
    desk: Desk,
    action: str,
    was: DatasetState | None,
    now: DatasetState,
    user: str,
    reason: str | None,
    at: datetime,
    revision: int | None = None,
) -> None:
    """Write down what the desk's version went through; `revision` is the dataset's behind it."""
    await desk.connection.value(
        ADD_TRANSITION,
        organization=desk.organization,
        base=base_of(desk.contract.name),
        major=version_of(desk.contract.version)[0],
        version=desk.contract.version,
        action=action,
        from_state=was,
        to_state=now,
        user=user,
        reason=reason,
        at=at,
        revision=revision,
    )


async def remove(
    connection: Connection, organization: str, dataset: str, version: str, user: str, at: datetime
) -> None:
    """Take a version in SHADOW away, with its schema; raises ContractNotFound and VersionInUse."""
    await lock_organization(connection, organization)
    found = pick_version(await read_versions(connection, organization, dataset), version)
    await lock_versions(Desk(connection, found.contract, organization))
    found = pick_version(await read_versions(connection, organization, dataset), version)
    desk = Desk(connection, found.contract, organization)
    if found.state is not DatasetState.SHADOW or not found.current:
        state = "there no more" if found.state is None else found.state
        raise VersionInUse(f"{dataset} {version} is {state}. Only the newest version of one in SHADOW can be deleted.")
    uses = await desk.row(FIND_USES)
    assert uses is not None, "a count returns its row"
    if uses["rows"] or uses["runs"]:
        what = "rows" if uses["rows"] else "a run under way"
        raise VersionInUse(f"{dataset} {version} has {what}. A version that is used is not deleted.")
    await record(desk, Entry(at=at, actor=user, action=Act.CONTRACT_DELETED, details={"version": version}))
    tell(desk, EventType.DATASET, at, actor=user, event="deleted", version=version)
    if await desk.value(REMOVE_CONTRACT, schema=found.contract.schema) is None:
        raise VersionInUse(f"{dataset} {version} is in SHADOW no more.")
    await desk.value(EMPTY_RECEIVED, base=dataset)
    await _reopen_reports(desk, at)
    await drop_storage(connection, found.contract)
    log.info("contract deleted", organization=organization, dataset=dataset, version=version)


async def _reopen_reports(desk: Desk, at: datetime) -> None:
    """What was accepted as the desk's version, which is gone, is to be decided again."""
    base, major = base_of(desk.contract.name), version_of(desk.contract.version)[0]
    reports = await desk.connection.rows(REOPEN_REPORTS, organization=desk.organization, base=base, major=str(major))
    desk = Desk(desk.connection, msgspec.structs.replace(desk.contract, name=base), desk.organization)
    for row in reports:
        tell(
            desk, EventType.DATASET, at,
            event="drift", report=str(row["id"]), severity=row["severity"], state=ReportState.OPEN,
        )  # fmt: skip
