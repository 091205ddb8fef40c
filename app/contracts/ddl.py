"""The DDL that a contract compiles to. All of it can run twice: what is there stays, what is new is added."""

from app.contracts.model import Column, Contract, HotSort
from app.queries import BUILT_IN_SCHEMA, Statement, statement

DATASET = statement("schema/dataset")
SHARED = statement("schema/vanguard")


def shared_ddl() -> str:
    """The functions that all datasets share."""
    return SHARED.text


def dataset_ddl(contract: Contract) -> list[str]:
    """Scripts that make or complete the dataset's schema, in order; `indexes_ddl` comes after them."""
    scripts = [_qualified(DATASET, contract)]
    if contract.functions is not None:
        scripts.append(_qualified(statement(f"schema/{contract.functions}"), contract))
    scripts.append("\n".join(_columns(contract)))
    return scripts


def indexes_ddl(contract: Contract) -> str:
    """The B-trees of the hot sorts in mirror and modification, and the trigram index of the search."""
    return "\n".join([*(sql for hot in contract.hot for sql in _hot_indexes(contract, hot)), _search_index(contract)])


def drop_indexes_ddl(contract: Contract) -> str:
    """Drop what `indexes_ddl` makes in the mirror, before a first load of many rows."""
    names = [f"mirror_{_suffix(hot)}" for hot in contract.hot] + ["mirror_search"]
    return "\n".join(f"DROP INDEX IF EXISTS {contract.schema}.{name};" for name in names)


def _qualified(part: Statement, contract: Contract) -> str:
    text = part.within(contract.schema).text
    # CREATE SCHEMA and GRANT name the schema without a dot behind it.
    text = text.replace(f"SCHEMA IF NOT EXISTS {BUILT_IN_SCHEMA};", f"SCHEMA IF NOT EXISTS {contract.schema};")
    return text.replace(f"ON SCHEMA {BUILT_IN_SCHEMA},", f"ON SCHEMA {contract.schema},")


def generated_columns(contract: Contract) -> dict[str, tuple[str, str]]:
    """The mirror's generated columns: name -> (type, expression)."""
    columns = {f"f_{column.name}": (column.sql_type, column.of("data")) for column in contract.columns}
    search = contract.search_expression.replace("doc ->>", "data ->>")
    return columns | {"search": ('text COLLATE "C"', search)}


def _columns(contract: Contract) -> list[str]:
    """Say STORED always: PostgreSQL 18 defaults to VIRTUAL, which cannot be indexed.

    Each column's expression stands in its comment too, as it was written: `vanguard migrate` makes those anew whose
    expression is another one now.
    """
    schema, generated = contract.schema, generated_columns(contract)
    mirror = [
        f"ADD COLUMN IF NOT EXISTS {name} {sql_type} GENERATED ALWAYS AS ({expression}) STORED"
        for name, (sql_type, expression) in generated.items()
    ]
    images = [
        f"ADD COLUMN IF NOT EXISTS {prefix}_{column.name} {column.sql_type}"
        for prefix in ("b", "a")
        for column in contract.columns
    ]
    comments = [
        f"COMMENT ON COLUMN {schema}.mirror.{name} IS $comment${expression}$comment$;"
        for name, (_, expression) in generated.items()
    ]
    return [
        f"ALTER TABLE {schema}.mirror\n    " + ",\n    ".join(mirror) + ";",
        *([f"ALTER TABLE {schema}.modification\n    " + ",\n    ".join(images) + ";"] if images else []),
        *comments,
    ]


def _suffix(hot: HotSort) -> str:
    names = [_column(name) for name in (*hot.filters, hot.sort)]
    return "_".join([*names, "desc"] if hot.descending else names)


def _column(field: str) -> str:
    return Column(field, "text", "").name


def _hot_indexes(contract: Contract, hot: HotSort) -> list[str]:
    names = [_column(name) for name in (*hot.filters, hot.sort)]
    schema, suffix = contract.schema, _suffix(hot)

    def columns(prefix: str) -> str:
        return ", ".join(f"{prefix}_{name}" for name in names) + (" DESC" if hot.descending else "")

    return [
        f"CREATE INDEX IF NOT EXISTS mirror_{suffix} ON {schema}.mirror (organization_id, {columns('f')}, row_key);",
        f"CREATE INDEX IF NOT EXISTS modification_lands_{suffix} ON {schema}.modification "
        f"(organization_id, user_id, {columns('a')}, row_key) WHERE lands;",
    ]


def _search_index(contract: Contract) -> str:
    """A trigram index where the extensions are; without them search still works, by the organization's rows."""
    return f"""DO $$
BEGIN
    IF (SELECT count(*) FROM pg_extension WHERE extname IN ('pg_trgm', 'btree_gin')) = 2 THEN
        CREATE INDEX IF NOT EXISTS mirror_search ON {contract.schema}.mirror
            USING gin (organization_id, search gin_trgm_ops) WITH (fastupdate = off);
    END IF;
END
$$;"""
