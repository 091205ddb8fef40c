"""The control tables as SQLAlchemy metadata: for Alembic's drift check only, never queried."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()
NOW = text("now()")


def _key(*constraints: ForeignKey, name: str, primary: bool = True) -> "Column[str]":
    return Column(name, Text(collation="C"), *constraints, primary_key=primary, nullable=False)


def _time(name: str, *, default: bool = True) -> "Column[object]":
    return Column(name, DateTime(timezone=True), nullable=False, server_default=NOW if default else None)


def _organization() -> "Column[str]":
    return _key(ForeignKey("organization.id", ondelete="CASCADE"), name="organization_id")


Table(
    "organization",
    metadata,
    _key(name="id"),
    Column("name", Text, nullable=False),
    Column("managed_by_identity_provider", Boolean, nullable=False, server_default=text("false")),
    _time("created_at"),
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
Table("revoked_token", metadata, _key(name="id"), _time("expires_at", default=False))
Table(
    "login_failure",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("failures", Integer, nullable=False),
    _time("last_at", default=False),
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
)
Table(
    "workspace",
    metadata,
    _key(name="organization_id"),
    _key(name="dataset"),
    _key(name="user_id"),
    Column("revision", BigInteger, nullable=False, server_default=text("0")),
    ForeignKeyConstraint(
        ["organization_id", "dataset"], ["dataset.organization_id", "dataset.name"], ondelete="CASCADE"
    ),
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
    Index("idempotency_key_age", "organization_id", "created_at"),
)
