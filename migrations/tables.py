"""The control tables as SQLAlchemy metadata: for Alembic's drift check only, never queried.

Without CHECKs, which Alembic does not compare: tests/test_migrations.py does, going down and up.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData()
NOW = text("now()")


def _key(*constraints: ForeignKey, name: str, primary: bool = True) -> "Column[str]":
    return Column(name, Text(collation="C"), *constraints, primary_key=primary, nullable=False)


def _time(name: str, *, default: bool = True) -> "Column[object]":
    return Column(name, DateTime(timezone=True), nullable=False, server_default=NOW if default else None)


def _organization() -> "Column[str]":
    return _key(ForeignKey("organization.id", ondelete="CASCADE"), name="organization_id")


def _moment(name: str) -> "Column[object]":
    return Column(name, DateTime(timezone=True))


def _count(name: str, kind: type[Integer]) -> "Column[int]":
    return Column(name, kind, nullable=False, server_default=text("0"))


def _dataset() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["organization_id", "dataset"], ["dataset.organization_id", "dataset.name"], ondelete="CASCADE"
    )


def _request() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["organization_id", "request_id"], ["change_request.organization_id", "change_request.id"], ondelete="CASCADE"
    )


# What a run of synchronization counts.
COUNTS = (
    "rows_read", "inserted", "updated", "unchanged", "deleted", "quarantined", "conflicts", "left_alone", "dropped",
    "synced", "sync_errors", "retried", "normalized",
)  # fmt: skip

Table(
    "organization",
    metadata,
    _key(name="id"),
    Column("name", Text, nullable=False),
    Column("managed_by_identity_provider", Boolean, nullable=False, server_default=text("false")),
    _time("created_at"),
    Column("identity_provider", Text(collation="C")),
)
Table(
    "account",
    metadata,
    _key(name="id"),
    _key(name="email", primary=False),
    Column("name", Text, nullable=False),
    Column("password_hash", Text),
    Column("operator", Boolean, nullable=False, server_default=text("false")),
    _time("created_at"),
    UniqueConstraint("email", name="account_email_key"),
)
Table(
    "membership",
    metadata,
    _organization(),
    _key(ForeignKey("account.id", ondelete="CASCADE"), name="account_id"),
    Column("role", Text, nullable=False),
    _time("created_at"),
    Index("membership_account", "account_id"),
)
Table(
    "incarnation",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("number", BigInteger, nullable=False, server_default=text("0")),
    Column("place", Text, nullable=False, server_default=text("''")),
    _time("began_at"),
)
Table("revoked_token", metadata, _key(name="id"), _time("expires_at", default=False))
Table(
    "logout",
    metadata,
    _key(name="subject"),
    Column("scope", Text(collation="C"), primary_key=True, server_default=text("''")),
    _time("at", default=False),
    Index("logout_at", "at"),
)
Table(
    "invitation",
    metadata,
    _organization(),
    Column("id", Uuid, primary_key=True),
    _key(name="email", primary=False),
    Column("role", Text, nullable=False),
    _key(name="invited_by", primary=False),
    _time("created_at", default=False),
    _time("expires_at", default=False),
    UniqueConstraint("id", name="invitation_id_key"),
    UniqueConstraint("organization_id", "email", name="invitation_email_key"),
)
Table(
    "login_attempt",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("kind", SmallInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    _time("last_at", default=False),
    _time("open_at", default=False),
    Index("login_attempt_last_at", "last_at"),
)
Table(
    "login_address",
    metadata,
    Column("address", LargeBinary, primary_key=True),
    Column("pair", LargeBinary, primary_key=True),
    _key(ForeignKey("account.id", ondelete="CASCADE"), name="account_id", primary=False),
    _time("seen_at", default=False),
    Index("login_address_account", "account_id", "seen_at"),
    Index("login_address_seen_at", "seen_at"),
)
Table(
    "dataset",
    metadata,
    _organization(),
    _key(name="name"),
    Column("contract_version", Text, nullable=False),
    Column("revision", BigInteger, nullable=False, server_default=text("0")),
    Column("require_approval", Boolean, nullable=False, server_default=text("false")),
    _time("created_at"),
    Column("unrecorded", BigInteger, nullable=False, server_default=text("0")),
    Column("base", Text(collation="C"), Computed("split_part(name, '@'::text, 1)", persisted=True), nullable=False),
    Column("major", Integer, nullable=False, server_default=text("1")),
    Column("schema_name", Text(collation="C")),
    Column("state", Text, ForeignKey("dataset_state.state"), nullable=False, server_default=text("'ACTIVE'")),
    Column("owner", Text(collation="C")),
    Column("supersedes", Integer),
    _moment("promoted_at"),
    _moment("deprecated_at"),
    Column("kpi_revision", BigInteger, nullable=False, server_default=text("-1")),
    UniqueConstraint("schema_name", name="dataset_schema_name_key", deferrable=True),
    UniqueConstraint("organization_id", "base", "major", name="dataset_version_key", deferrable=True),
    Index("dataset_active", "organization_id", "base", unique=True, postgresql_where=text("state = 'ACTIVE'")),
    Index("dataset_own", "organization_id", "name", postgresql_where=text("schema_name IS NOT NULL")),
)
Table(
    "dataset_state",
    metadata,
    Column("state", Text, primary_key=True),
    *(
        Column(name, Boolean, nullable=False)
        for name in ("queryable", "writable", "edited", "filled", "visible", "auto_joined")
    ),
)
Table(
    "contract",
    metadata,
    _organization(),
    _key(name="dataset"),
    Column("major", Integer, primary_key=True, autoincrement=False),
    Column("minor", Integer, primary_key=True, autoincrement=False),
    _key(name="schema_name", primary=False),
    Column("document", Text, nullable=False),
    Column("fields", Integer, nullable=False),
    Column("changes", JSONB, nullable=False, server_default=text("'[]'")),
    Column("storage", Text, nullable=False),
    _key(name="registered_by", primary=False),
    _time("registered_at", default=False),
    Index("contract_schema", "schema_name", "minor"),
)
Table(
    "dataset_transition",
    metadata,
    _organization(),
    _key(name="dataset"),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("major", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    Column("actor", Text(collation="C")),
    Column("reason", Text),
    _time("at", default=False),
    Column("revision", BigInteger),
    _moment("undone_at"),
)
Table(
    "system",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("mode", Text, nullable=False, server_default=text("'READ_ONLY'")),
    _moment("changed_at"),
    Column("changed_by", Text(collation="C")),
)
Table(
    "received",
    metadata,
    _key(name="organization_id"),
    _key(name="dataset"),
    Column("received_at", DateTime(timezone=True), primary_key=True),
    Column("run_id", Uuid, primary_key=True),
    Column("line", BigInteger, primary_key=True, autoincrement=False),
    Column("textual", Boolean, nullable=False),
    Column("record", LargeBinary, nullable=False),
)
Table(
    "workspace",
    metadata,
    _key(name="organization_id"),
    _key(name="dataset"),
    _key(name="user_id"),
    Column("revision", BigInteger, nullable=False, server_default=text("0")),
    _count("held_rows", BigInteger),
    _count("held_bytes", BigInteger),
    Column("held_known", Boolean, nullable=False, server_default=text("true")),
    _dataset(),
    Index("workspace_of_user", "organization_id", "user_id"),
)
Table(
    "idempotency_key",
    metadata,
    _organization(),
    _key(name="user_id"),
    _key(name="key"),
    Column("request_digest", LargeBinary, nullable=False),
    Column("status", Integer),
    Column("answer", LargeBinary),
    _time("created_at", default=False),
    Column("answer_digest", LargeBinary),
    Column("refused", Boolean, nullable=False, server_default=text("false")),
    Index("idempotency_key_age", "organization_id", "created_at"),
    Index(
        "idempotency_key_refusals",
        "organization_id",
        "user_id",
        "created_at",
        postgresql_where=text("refused"),
    ),
)
Table(
    "kept_answers",
    metadata,
    _organization(),
    _key(name="user_id"),
    _count("keys", BigInteger),
    _count("bytes", BigInteger),
)
Table(
    "synchronization",
    metadata,
    _key(name="organization_id"),
    _key(name="dataset"),
    Column("pull_every", Integer, nullable=False),
    Column("full_every", Integer, nullable=False),
    _moment("watermark"),
    _time("next_pull_at", default=False),
    _moment("pulled_at"),
    _moment("pulled_whole_at"),
    Column("marked", Text(collation="C")),
    Column("full_wanted", Boolean, nullable=False, server_default=text("false")),
    _count("pull_failures", Integer),
    _count("failures", Integer),
    _moment("open_until"),
    _moment("paused_at"),
    Column("paused_by", Text(collation="C")),
    Column("columns", ARRAY(Text(collation="C"))),
    _dataset(),
)
Table(
    "sync_run",
    metadata,
    _key(name="organization_id"),
    Column("id", Uuid, primary_key=True),
    _key(name="dataset", primary=False),
    Column("kind", Text, nullable=False),
    Column("whole", Boolean, nullable=False, server_default=text("false")),
    Column("state", Text, nullable=False),
    Column("requested_by", Text(collation="C")),
    _time("requested_at", default=False),
    *(_moment(name) for name in ("started_at", "progressed_at", "finished_at", "since")),
    Column("cursor", Text),
    _moment("mark"),
    Column("start_revision", BigInteger),
    Column("total", BigInteger),
    *(_count(name, BigInteger) for name in COUNTS),
    Column("error_code", Text),
    Column("error", Text),
    Column("tally", JSONB),
    Column("doubt", Text),
    Column("marked", Text(collation="C")),
    Column("witness", Text(collation="C")),
    Column("allow", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("stop_by", Text(collation="C")),
    _moment("stop_at"),
    Column("report", JSONB),
    _count("skipped", BigInteger),
    Column("parameters", JSONB),
    _dataset(),
    Index("sync_run_newest", "organization_id", "dataset", text("requested_at DESC"), "id"),
    Index(
        "sync_run_unfinished",
        "organization_id",
        "dataset",
        "kind",
        "requested_at",
        postgresql_where=text("state IN ('requested', 'running')"),
    ),
)
Table(
    "quarantine",
    metadata,
    _key(name="organization_id"),
    _key(name="dataset"),
    _key(name="row_key"),
    Column("reasons", JSONB, nullable=False),
    Column("received", JSONB, nullable=False),
    Column("run_id", Uuid, nullable=False),
    _time("first_seen_at", default=False),
    _time("last_seen_at", default=False),
    Column("line", BigInteger),
    Column("raw", LargeBinary),
    Column("textual", Boolean),
    _moment("discarded_at"),
    Column("discarded_by", Text(collation="C")),
    Column("discard_reason", Text),
    _dataset(),
)
Table(
    "state_transition",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("machine", "from_state", "to_state")),
)
Table(
    "edit_session",
    metadata,
    _key(name="organization_id"),
    _key(name="id"),
    _key(name="dataset", primary=False),
    _key(name="user_id", primary=False),
    Column("mode", Text, nullable=False),
    Column("rows", ARRAY(Text)),
    Column("title", Text),
    Column("state", Text, nullable=False, server_default=text("'active'")),
    _time("created_at", default=False),
    _time("expires_at", default=False),
    _moment("ended_at"),
    _count("edits", BigInteger),
    _count("staged", BigInteger),
    Column("run_id", Uuid),
    Column("digest", Text),
    _dataset(),
    Index("edit_session_newest", "organization_id", "dataset", "user_id", text("created_at DESC"), "id"),
    Index(
        "edit_session_expiring",
        "organization_id",
        "dataset",
        "expires_at",
        postgresql_where=text("state IN ('active', 'preview')"),
    ),
    Index(
        "edit_session_ended", "organization_id", "dataset", "ended_at", postgresql_where=text("ended_at IS NOT NULL")
    ),
)
Table(
    "validation_run",
    metadata,
    _key(name="organization_id"),
    Column("id", Uuid, primary_key=True),
    _key(name="dataset", primary=False),
    _key(name="session_id", primary=False),
    Column("contract_version", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'not_started'")),
    Column("counts", JSONB),
    Column("messages", JSONB),
    _moment("started_at"),
    _moment("finished_at"),
    Column("reason", Text),
    Column("decided_by", Text(collation="C")),
    ForeignKeyConstraint(
        ["organization_id", "session_id"], ["edit_session.organization_id", "edit_session.id"], ondelete="CASCADE"
    ),
    Index("validation_run_session", "organization_id", "session_id"),
)
Table(
    "change_request",
    metadata,
    _key(name="organization_id"),
    Column("id", Uuid, primary_key=True),
    _key(name="dataset", primary=False),
    _key(name="session_id", primary=False),
    _key(name="author", primary=False),
    Column("title", Text, nullable=False),
    Column("description", Text),
    Column("approvers", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("state", Text, nullable=False, server_default=text("'pending_review'")),
    Column("iteration", Integer, nullable=False, server_default=text("1")),
    Column("content", Text, nullable=False),
    Column("conflicts", JSONB, nullable=False, server_default=text("'[]'")),
    Column("validation", JSONB, nullable=False),
    Column("summary", JSONB, nullable=False),
    Column("base_revision", BigInteger, nullable=False),
    Column("merged_revision", BigInteger),
    Column("commit_id", Uuid),
    Column("result", JSONB),
    Column("reason", Text),
    Column("reverts", Uuid),
    Column("reverts_commit", Uuid),
    Column("left_out", JSONB, nullable=False, server_default=text("'[]'")),
    _time("created_at", default=False),
    _time("updated_at", default=False),
    _moment("merged_at"),
    Column("merged_by", Text(collation="C")),
    _moment("closed_at"),
    _dataset(),
    Index("change_request_newest", "organization_id", "dataset", text("created_at DESC"), "id"),
    Index("change_request_session", "organization_id", "session_id"),
    Index("change_request_merged", "organization_id", "dataset", postgresql_where=text("state = 'merged'")),
    Index(
        "change_request_ended",
        "organization_id",
        "dataset",
        "updated_at",
        postgresql_where=text("state IN ('rejected', 'withdrawn', 'closed')"),
    ),
)
Table(
    "approval",
    metadata,
    _key(name="organization_id"),
    Column("request_id", Uuid, primary_key=True),
    Column("iteration", Integer, primary_key=True),
    _key(name="approver"),
    Column("digest", Text, nullable=False),
    _time("at", default=False),
    _request(),
)
Table(
    "request_event",
    metadata,
    _key(name="organization_id"),
    Column("request_id", Uuid, primary_key=True),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("iteration", Integer, nullable=False),
    Column("actor", Text(collation="C")),
    _time("at", default=False),
    Column("text", Text),
    Column("row_key", Text(collation="C")),
    Column("field", Text(collation="C")),
    Column("details", JSONB, nullable=False, server_default=text("'{}'")),
    _request(),
)
Table(
    "resolution",
    metadata,
    _key(name="organization_id"),
    Column("id", Uuid, primary_key=True),
    _key(name="dataset", primary=False),
    _key(name="row_key", primary=False),
    Column("field", Text(collation="C")),
    *(Column(name, JSONB, nullable=False) for name in ("base", "theirs", "mine")),
    Column("use", Text, nullable=False),
    Column("value", JSONB),
    _key(name="actor", primary=False),
    _time("at", default=False),
    _count("used", BigInteger),
    _moment("used_at"),
    _dataset(),
    Index("resolution_row", "organization_id", "dataset", "row_key", "field"),
)
Table(
    "audit",
    metadata,
    _key(name="organization_id"),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _time("at", default=False),
    Column("actor", Text(collation="C")),
    _key(name="action", primary=False),
    Column("dataset", Text(collation="C")),
    Column("request_id", Uuid),
    Column("commit_id", Uuid),
    Column("row_key", Text(collation="C")),
    Column("field", Text(collation="C")),
    Column("reason", Text),
    Column("details", JSONB, nullable=False, server_default=text("'{}'")),
    Column("address", Text(collation="C")),
    Index("audit_newest", "organization_id", "at", "id"),
    Index("audit_actor", "organization_id", "actor", "at", "id"),
    Index("audit_action", "organization_id", "action", "at", "id"),
    *(
        Index(
            f"audit_{name}",
            "organization_id",
            *columns,
            "at",
            "id",
            postgresql_where=text(f"{columns[-1]} IS NOT NULL"),
        )
        for name, *columns in (("row", "dataset", "row_key"), ("request", "request_id"), ("commit", "commit_id"))
    ),
)
Table("feed_counter", metadata, _organization(), Column("number", BigInteger, nullable=False))
Table(
    "feed",
    metadata,
    _key(ForeignKey("feed_counter.organization_id", ondelete="CASCADE"), name="organization_id"),
    Column("number", BigInteger, primary_key=True),
    _time("at", default=False),
    _key(name="type", primary=False),
    _key(name="dataset", primary=False),
    Column("revision", BigInteger),
    Column("actor", Text(collation="C")),
    Column("row_count", BigInteger),
    Column("keys", ARRAY(Text(collation="C"))),
    Column("renamed", JSONB),
    Column("details", JSONB, nullable=False, server_default=text("'{}'")),
    Column("audience", ARRAY(Text(collation="C"))),
    Column("for_admins", Boolean, nullable=False, server_default=text("false")),
    Column("for_engineers", Boolean, nullable=False, server_default=text("false")),
    Index("feed_of_dataset", "organization_id", "dataset", "number"),
)
Table(
    "reader",
    metadata,
    _key(name="role_name"),
    Column("organization_id", Text(collation="C"), ForeignKey("organization.id", ondelete="CASCADE"), nullable=False),
)
Table("retention", metadata, _key(name="kind"), Column("days", Integer, nullable=False))
Table(
    "drift_report",
    metadata,
    _organization(),
    Column("id", Uuid, primary_key=True),
    _key(name="dataset", primary=False),
    *(Column(name, Text, nullable=False) for name in ("version", "source", "state", "severity")),
    *(Column(name, Boolean, nullable=False) for name in ("backward", "forward", "backward_all", "forward_all")),
    Column("health", JSONB),
    Column("rows", BigInteger),
    Column("run_id", Uuid),
    Column("digest", LargeBinary, nullable=False),
    Column("columns", ARRAY(Text(collation="C"))),
    Column("schema", Text),
    _time("at", default=False),
    _time("seen_at", default=False),
    Column("times", BigInteger, nullable=False, server_default=text("1")),
    Column("created_by", Text(collation="C")),
    Column("decided_by", Text(collation="C")),
    _moment("decided_at"),
    Column("reason", Text),
    Column("made_version", Text),
    Index(
        "drift_report_seen", "organization_id", "dataset", "source", "version", "digest",
        unique=True,
        postgresql_where=text(
            "source IN ('pull', 'ingest') AND (state IN ('open', 'rejected', 'applied')"
            " OR (source = 'ingest' AND state = 'accepted'))"
        ),
    ),
    Index("drift_report_at", "organization_id", "dataset", text("at DESC"), text("id DESC")),
    Index("drift_report_decided", "seen_at", postgresql_where=text("state <> 'open'")),
)  # fmt: skip
Table(
    "drift_change",
    metadata,
    _key(name="organization_id"),
    Column("report_id", Uuid, primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("path", Text, nullable=False),
    *(Column(name, Text(collation="C")) for name in ("field", "was", "now")),
    *(Column(name, JSONB) for name in ("old", "new")),
    Column("severity", Text, nullable=False),
    *(Column(name, Boolean, nullable=False) for name in ("backward", "forward")),
    *(Column(name, Text, nullable=False) for name in ("rule", "remedy")),
    Column("confidence", Numeric),
    Column("evidence", JSONB),
    Column("uses", JSONB, nullable=False),
    Column("violations", BigInteger),
    Column("decision", Text),
    Column("mapped_to", Text(collation="C")),
    ForeignKeyConstraint(
        ["organization_id", "report_id"], ["drift_report.organization_id", "drift_report.id"], ondelete="CASCADE"
    ),
)
Table(
    "field_mapping",
    metadata,
    _organization(),
    _key(name="dataset"),
    _key(name="field"),
    Column("field_id", Integer, primary_key=True, autoincrement=False, server_default=text("0")),
    Column("name", Text(collation="C")),
    Column("report_id", Uuid, nullable=False),
    Column("mapped_by", Text(collation="C"), nullable=False),
    _time("mapped_at", default=False),
)
Table(
    "dataset_join",
    metadata,
    _organization(),
    Column("id", Uuid, primary_key=True),
    Column("version", Integer, nullable=False),
    *(
        column
        for side in ("child", "parent")
        for column in (
            _key(name=side, primary=False),
            Column(f"{side}_fields", ARRAY(Text(collation="C")), nullable=False),
        )
    ),
    Column("state", Text, nullable=False, server_default=text("'accepted'")),
    Column("rationale", Text, nullable=False),
    Column("confidence", Numeric, nullable=False),
    Column("statistics", JSONB, nullable=False),
    Column("accepted_by", Text(collation="C"), nullable=False),
    _time("accepted_at", default=False),
    Column("deprecated_by", Text(collation="C")),
    _moment("deprecated_at"),
    Column("reason", Text),
    Column("uses", BigInteger, nullable=False, server_default=text("0")),
    _moment("last_used_at"),
    Index(
        "dataset_join_version", "organization_id", "child", "child_fields", "parent", "parent_fields", "version",
        unique=True,
    ),
    Index(
        "dataset_join_accepted", "organization_id", "child", "child_fields", "parent", "parent_fields",
        unique=True, postgresql_where=text("state = 'accepted'"),
    ),
    Index("dataset_join_at", "organization_id", text("accepted_at DESC"), text("id DESC")),
)  # fmt: skip
Table(
    "query_preview",
    metadata,
    _organization(),
    Column("id", Uuid, primary_key=True),
    _key(name="user_id", primary=False),
    Column("query", JSONB, nullable=False),
    Column("sentence", Text),
    Column("digest", LargeBinary, nullable=False),
    _time("at", default=False),
    _time("expires_at", default=False),
    Index("query_preview_user", "organization_id", "user_id", "expires_at"),
)
Table(
    "query_correction",
    metadata,
    _organization(),
    Column("id", Uuid, primary_key=True),
    _key(name="user_id", primary=False),
    *(Column(name, Uuid, nullable=False) for name in ("preview_id", "made_id")),
    Column("type", Text, nullable=False),
    *(Column(name, JSONB, nullable=False) for name in ("correction", "query")),
    Column("sentence", Text),
    _time("at", default=False),
    Index("query_correction_at", "organization_id", "at"),
)
Table(
    "query_execution",
    metadata,
    _organization(),
    Column("id", Uuid, primary_key=True),
    _key(name="user_id", primary=False),
    Column("preview_id", Uuid, nullable=False),
    Column("query", JSONB, nullable=False),
    Column("sentence", Text),
    Column("digest", LargeBinary, nullable=False),
    Column("format", Text, nullable=False),
    Column("joins", ARRAY(Uuid), nullable=False),
    Column("cost", Double, nullable=False),
    Column("estimated_rows", BigInteger, nullable=False),
    Column("override_reason", Text),
    _time("at", default=False),
    Column("outcome", Text),
    Column("seconds", Double),
    Column("rows", BigInteger),
    Column("truncated", Boolean),
    Index("query_execution_at", "organization_id", "user_id", text("at DESC"), text("id DESC")),
    Index("query_execution_all", "organization_id", text("at DESC"), text("id DESC")),
)
