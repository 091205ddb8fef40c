"""The audit: who did what, when, from where, and to which cell.

An act is recorded in its own transaction: there is none without its entry, and no entry without its act. The database
lets the service add entries and read them; only retention takes them away. What became of each cell is in the history.
"""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from app.base import origin
from app.base.database import Connection
from app.base.statements import statement
from app.engine.desk import Desk

RECORD_ENTRIES = statement("audit/record_entries")
RECORD_EVERYWHERE = statement("audit/record_everywhere")

INSTALLATION = ""  # in place of an organization: what is done to all of them, or to none


class Act(StrEnum):
    """Everything that is recorded. docs/audit.md tells what each stands for."""

    REQUEST_SUBMITTED = "request.submitted"
    REQUEST_APPROVED = "request.approved"
    REQUEST_REJECTED = "request.rejected"
    REQUEST_WITHDRAWN = "request.withdrawn"
    REQUEST_RESUBMITTED = "request.resubmitted"
    REQUEST_RESOLVED = "request.resolved"
    REQUEST_MERGED = "request.merged"
    REQUEST_MERGE_FAILED = "request.merge_failed"
    REQUEST_CLOSED = "request.closed"
    REQUEST_REVERTED = "request.reverted"
    MERGE_FORCED = "merge.forced"
    MERGE_CONFLICT_CHECK_SKIPPED = "merge.conflict_check_skipped"
    COMMIT = "commit"
    COMMIT_REVERTED = "commit.reverted"
    RESOLUTION_FORGOTTEN = "resolution.forgotten"
    SETTINGS_CHANGED = "settings.changed"
    CONTRACT_REGISTERED = "contract.registered"
    CONTRACT_DELETED = "contract.deleted"
    DATASET_PROMOTED = "dataset.promoted"
    DATASET_DEPRECATED = "dataset.deprecated"
    DATASET_RESTORED = "dataset.restored"
    DATASET_ROLLED_BACK = "dataset.rolled_back"
    RECORDS_REPLAYED = "records.replayed"
    RECORDS_BACKFILLED = "records.backfilled"
    QUARANTINE_REPLAYED = "quarantine.replayed"
    QUARANTINE_DISCARDED = "quarantine.discarded"
    AUDIT_EXPORTED = "audit.exported"
    EXPORT_BEGUN = "export.begun"
    RECORDS_SENT = "records.sent"
    SYNC_REQUESTED = "sync.requested"
    SYNC_PAUSED = "sync.paused"
    SYNC_RESUMED = "sync.resumed"
    SYNC_STOPPED = "sync.stopped"
    SYNC_RETRIED = "sync.retried"
    DRIFT_ACCEPTED = "drift.accepted"
    DRIFT_MAPPED = "drift.mapped"
    DRIFT_REJECTED = "drift.rejected"
    MAPPING_REMOVED = "mapping.removed"
    JOIN_ACCEPTED = "join.accepted"
    JOIN_DEPRECATED = "join.deprecated"
    QUERY_EXECUTED = "query.executed"
    QUERY_OVERRIDDEN = "query.overridden"
    SYSTEM_MODE_CHANGED = "system.mode_changed"
    LOGIN_SUCCEEDED = "login.succeeded"
    LOGIN_FAILED = "login.failed"
    LOGOUT_EVERYWHERE = "logout.everywhere"
    TOKEN_ISSUED = "token.issued"  # noqa: S105 - an act's name
    TOKEN_RENEWED = "token.renewed"  # noqa: S105
    TOKEN_REVOKED = "token.revoked"  # noqa: S105
    PASSWORD_CHANGED = "password.changed"  # noqa: S105
    ACCOUNT_ADDED = "account.added"
    ACCOUNT_REMOVED = "account.removed"
    ACCOUNT_OPERATOR_CHANGED = "account.operator_changed"
    MEMBER_INVITED = "member.invited"
    INVITATION_WITHDRAWN = "invitation.withdrawn"
    MEMBER_JOINED = "member.joined"
    MEMBER_ROLE_CHANGED = "member.role_changed"
    MEMBER_REMOVED = "member.removed"
    ORGANIZATION_ADDED = "organization.added"
    ORGANIZATION_MANAGED = "organization.managed"
    READER_ADDED = "reader.added"
    READER_REMOVED = "reader.removed"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One act. `actor` is an account's id, None for nobody; `request_id` a change request; `row_key` and `field` the
    cell that it is about. `details` are what the action has beside, of a cell {before, after}; no secrets.
    """

    at: datetime
    actor: str | None
    action: Act
    request_id: uuid.UUID | None = None
    commit_id: uuid.UUID | None = None
    row_key: str | None = None
    field: str | None = None
    reason: str | None = None
    details: dict[str, Any] = {}


async def record(desk: Desk, *entries: Entry) -> None:
    """Record acts on the desk's dataset, in their order, inside the caller's transaction."""
    await record_in(desk.connection, desk.organization, desk.contract.name, *entries)


async def record_in(connection: Connection, organization: str, dataset: str | None, *entries: Entry) -> None:
    """The same without a desk; `dataset` None: of the whole organization. INSTALLATION is one, too."""
    await connection.value(
        RECORD_ENTRIES, organization=organization, dataset=dataset, entries=_told(entries), address=origin.address.get()
    )


async def record_everywhere(connection: Connection, organizations: Iterable[str], *entries: Entry) -> None:
    """The same of what is about an account: in each organization that it belongs to, else as the installation's."""
    await connection.value(
        RECORD_EVERYWHERE,
        organizations=sorted(organizations),
        entries=_told(entries),
        address=origin.address.get(),
    )


def _told(entries: Sequence[Entry]) -> list[Entry]:
    """Where nobody here is known to have done it, with what they did it by."""
    by = origin.by.get()
    if by is None:
        return list(entries)
    return [
        msgspec.structs.replace(entry, details=entry.details | {"by": by}) if entry.actor is None else entry
        for entry in entries
    ]
