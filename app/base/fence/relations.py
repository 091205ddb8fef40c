"""What has tenants' rows: each relation by the column that says whose a row is. tests/test_fence.py compares this with
the catalog, so that nothing can be added that the proof does not know.
"""

from collections.abc import Mapping

KEY = "organization_id"

# public: tables by their column.
TENANTS: Mapping[str, str] = {
    "organization": "id",
    **dict.fromkeys(
        (
            "approval", "audit", "change_request", "contract", "dataset", "dataset_join", "dataset_transition",
            "drift_change", "drift_report", "edit_session", "feed", "feed_counter", "field_mapping", "idempotency_key",
            "invitation", "kept_answers", "membership", "person", "quarantine", "query_correction", "query_execution",
            "query_preview", "reader", "received", "request_event", "resolution", "sync_run", "synchronization",
            "validation_run", "workspace",
        ),
        KEY,
    ),
}  # fmt: skip

# The relations of each dataset's schema, views among them.
OF_DATASETS = frozenset(
    {"change", "dataset", "edit", "history", "kpi", "mirror", "modification", "pulled", "report", "step"}
)

# public: what belongs to no organization, but to an account or to the installation.
FREE = frozenset(
    {
        "account", "alembic_version", "dataset_state", "incarnation", "login_address", "login_attempt", "logout",
        "retention", "revoked_token", "state_transition", "system",
    }
)  # fmt: skip

# Temporary, made for one organization's rows, and emptied by the transaction that fills it.
TEMPORARY = frozenset({"staged"})

# What may be asked of the catalog: names and states of relations. None of it tells values of rows, as pg_stats would.
CATALOG = frozenset(
    {
        "pg_attribute", "pg_class", "pg_constraint", "pg_database", "pg_extension", "pg_index", "pg_namespace",
        "pg_roles", "pg_stat_user_tables",
    }
)  # fmt: skip

# Functions that read or write tenants' rows, by the place of the argument that says of which organization.
FUNCTIONS: Mapping[str, int] = dict.fromkeys(
    (
        "beneath", "empty_received", "forget_audit", "forget_feed", "forget_history", "in_flight", "in_outbox",
        "name_of", "names_of", "open_sessions", "refused", "theirs", "waits",
    ),
    0,
)  # fmt: skip
# Functions that read or write rows of all organizations, or say who reads which.
OF_ALL = frozenset({"forget_received", "let_read", "refresh_kpi"})
# The organization that the session of a reader of reports may see, NULL for everybody else.
OF_READERS = frozenset({"reader_organization"})
# `vanguard.refused()`, the states of a change, has the name of a dataset's function, and no arguments.
NAMESAKES = frozenset({("vanguard", "refused")})

# What runs a text of SQL that nobody has proved, or reads a file or another server.
UNSEEN = frozenset(
    {
        *(f"{what}_to_xml" for what in ("cursor", "database", "query", "schema", "table")),
        *(f"{what}_to_xml_and_xmlschema" for what in ("database", "query", "schema", "table")),
        "dblink", "dblink_exec", "dblink_fetch", "dblink_open", "dblink_send_query", "lo_get",
        "lo_export", "loread", "pg_read_binary_file", "pg_read_file", "ts_rewrite", "ts_stat",
    }
)  # fmt: skip


def tenant_key(schema: str | None, name: str) -> str | None:
    """The column that says whose a row of the relation is; None where it belongs to nobody.

    Raises KeyError for a relation that nobody has declared.
    """
    if schema in {"pg_catalog", None} and name in CATALOG:
        return None
    if schema in {"public", None} and name in TENANTS:
        return TENANTS[name]
    if schema in {"public", None} and name in FREE:
        return None
    if schema in {"pg_temp", None} and name in TEMPORARY:
        return None
    if schema not in {"public", "vanguard", "pg_catalog", "information_schema", None} and name in OF_DATASETS:
        return KEY
    raise KeyError(name)
