"""The DDL that a contract compiles to. All of it can run twice: what is there stays, what is new is added."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from app.base.statements import BUILT_IN_SCHEMA, Statement, statement
from app.contracts.aggregates import REVISION_GRAIN, Aggregate, aggregates, grain_of
from app.contracts.model import SQL_TYPES, Column, Contract, HotSort
from app.contracts.rules import unique_rules
from app.contracts.states import UNFINISHED

DATASET = statement("schema/dataset")
SHARED = statement("schema/vanguard")
# How the trigram index collects what is new: docs/decisions.md.
INDEX = re.compile(r"CREATE INDEX IF NOT EXISTS (\w+) ON")
# As PostgreSQL calls a type.
TYPE_NAMES = {"timestamptz": "timestamp with time zone"}
PENDING_LIST = "fastupdate=on, gin_pending_list_limit=256"


def shared_ddl() -> str:
    """The functions that all datasets share."""
    return SHARED.text


def dataset_ddl(contract: Contract, folding: str) -> list[str]:
    """Scripts that make or complete the dataset's schema, in order; `indexes_ddl` comes after them.

    `folding` says by what the server folds text.
    """
    scripts = [_qualified(DATASET, contract), _standing(contract)]
    if contract.functions is not None:
        scripts.append(_qualified(statement(f"schema/{contract.functions}"), contract))
    scripts.append("\n".join(_columns(contract, folding)))
    return scripts


class Generated(NamedTuple):
    """A generated column as it is: its type, and what it was made of."""

    type_name: str
    made_of: str


class Storage(NamedTuple):
    """What there is of a dataset's schema: the mirror's generated columns, what the view of KPIs was made of (None
    where there is none), and by what the server folds text.
    """

    generated: Mapping[str, Generated]
    kpis: str | None
    folding: str


class Step(NamedTuple):
    """A script, and what is told before it where there are rows that take time."""

    script: str
    told: str = ""


def stale_columns(contract: Contract, there: Storage) -> list[str]:
    """Columns that would be made of something else now; they are made anew, with their indexes."""
    wanted = {name: made_of(expression, there.folding) for name, (_, expression) in generated_columns(contract).items()}
    return [name for name, column in there.generated.items() if name in wanted and wanted[name] != column.made_of]


def storage_steps(contract: Contract, there: Storage) -> list[Step]:
    """What makes the dataset's schema, or brings the one that is there to what the contract says, in order.

    Images of rows under drafts are not made anew.
    """
    schema, stale = contract.schema, stale_columns(contract, there)
    steps = []
    # The view holds on to the columns that it reads.
    same_kpis = there.kpis == kpi_shape(contract)
    if not same_kpis:
        steps.append(Step(f"DROP MATERIALIZED VIEW IF EXISTS {schema}.kpi;"))
    if stale:
        steps.append(Step(drop_columns_ddl(contract, stale), f"{len(stale)} columns"))
    types = {name: sql_type.partition(" ")[0] for name, (sql_type, _) in generated_columns(contract).items()}
    if retyped := [
        name for name in stale if there.generated[name].type_name != TYPE_NAMES.get(types[name], types[name])
    ]:
        steps.append(Step(drop_images_ddl(contract, retyped)))
    steps += [Step(script) for script in dataset_ddl(contract, there.folding)]
    scripts = index_scripts(contract)
    for number, script in enumerate(scripts, start=1):
        steps.append(Step(script, f"index {number} of {len(scripts)}" if stale else ""))
    if not same_kpis:
        steps.append(Step(kpi_ddl(contract), "KPIs" if there.generated else ""))
    return [*steps, Step(forgetting_ddl(contract))]


def _type_name(contract: Contract, column: str) -> str:
    word = generated_columns(contract)[column][0].partition(" ")[0]
    return TYPE_NAMES.get(word, word)


@cache
def _made_by() -> bytes:
    """A digest of whatever makes scripts of contracts: this wing, and the relations that all datasets have."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join([*(path.read_bytes() for path in sources), DATASET.text.encode()])).digest()


def storage_digest(folding: str) -> str:
    """What a schema is made by, beside its contract: another release may make it otherwise, and so may another server.

    `vanguard migrate` passes over the schemas that were made by the same, without a look at their contracts.
    """
    return hashlib.sha256(_made_by() + folding.encode()).hexdigest()


def index_scripts(contract: Contract) -> list[str]:
    """One for each index: B-trees of the hot sorts in mirror and modification, those by which unique values are found,
    and the trigram index of the search.
    """
    mirror = [_mirror_index(contract, hot) for hot in sorts(contract)]
    lands = [_lands_index(contract, hot, also) for hot, also in landings(contract).items()]
    leaves = [_merged_index(contract, sort) for sort in contract.merged_sorts]
    changes = [script for rule in unique_rules(contract) for script in _unique_index(contract, rule.field)]
    events = [_events_index(contract)] if contract.appends else []
    last = [*events, _search_index(contract), _primary_keys_last(contract)]
    return [*mirror, *lands, *_former_indexes(contract), *leaves, *changes, *last]


def sorts(contract: Contract) -> tuple[HotSort, ...]:
    """The hot sorts, and as one of them each field that has to be unique and none has by itself."""
    alone = {hot.sort for hot in contract.hot if not hot.filters}
    unique = dict.fromkeys(rule.field for rule in unique_rules(contract) if rule.field not in alone)
    return (*contract.hot, *(HotSort(sort=name) for name in unique))


def index_names(contract: Contract) -> list[str]:
    """The indexes that `index_scripts` make; that of the search only where the extensions are."""
    found = [name for script in index_scripts(contract) for name in INDEX.findall(script)]
    return sorted(set(found) - {"mirror_search"})


def indexes_ddl(contract: Contract) -> str:
    """All of `index_scripts` in one."""
    return "\n".join(index_scripts(contract))


def drop_indexes_ddl(contract: Contract) -> str:
    """Drop what `indexes_ddl` makes in the mirror, before a first load of many rows."""
    names = [f"mirror_{_suffix(hot)}" for hot in sorts(contract)] + ["mirror_search"]
    return "\n".join(f"DROP INDEX IF EXISTS {contract.schema}.{name};" for name in names)


def drop_schema_ddl(contract: Contract) -> str:
    """Drop the dataset with all its rows."""
    return f"DROP SCHEMA IF EXISTS {contract.schema} CASCADE;"


def drop_columns_ddl(contract: Contract, names: Iterable[str]) -> str:
    """Drop generated columns of the mirror."""
    return f"ALTER TABLE {contract.schema}.mirror {', '.join(f'DROP COLUMN {name}' for name in names)};"


def drop_images_ddl(contract: Contract, names: Iterable[str]) -> str:
    """Drop the images of the mirror's columns of these names: their type is another now."""
    images = ", ".join(f"DROP COLUMN IF EXISTS {prefix}_{name.removeprefix('f_')}" for name in names for prefix in "ba")
    return "\n".join(f"ALTER TABLE {contract.schema}.{table} {images};" for table in ("modification", "history"))


def _standing(contract: Contract) -> str:
    """The dataset's rows of public.dataset, where they stand for this schema: what a statement reads with the revision
    from there is of one version, even while another takes its place.
    """
    condition = f"d.schema_name = '{contract.schema}'" if contract.own else "d.schema_name IS NULL"
    return f"""CREATE OR REPLACE VIEW {contract.schema}.dataset AS
SELECT d.organization_id, d.name, d.contract_version, d.revision, d.require_approval, d.unrecorded, d.state, d.major,
       d.owner, d.supersedes, d.deprecated_at
  FROM public.dataset AS d
 WHERE {condition};
GRANT SELECT ON {contract.schema}.dataset TO vanguard_app;"""


def _qualified(part: Statement, contract: Contract) -> str:
    text = part.within(contract.schema).text
    # CREATE SCHEMA and GRANT name the schema without a dot behind it.
    text = text.replace(f"SCHEMA IF NOT EXISTS {BUILT_IN_SCHEMA};", f"SCHEMA IF NOT EXISTS {contract.schema};")
    return text.replace(f"ON SCHEMA {BUILT_IN_SCHEMA} TO", f"ON SCHEMA {contract.schema} TO")


def generated_columns(contract: Contract) -> dict[str, tuple[str, str]]:
    """The mirror's generated columns: name -> (type, expression)."""
    columns = {f"f_{column.name}": (column.sql_type, column.of("data")) for column in contract.columns}
    search = contract.search_expression.replace("doc ->>", "data ->>")
    return columns | {"search": ('text COLLATE "C"', search)}


def made_of(expression: str, folding: str) -> str:
    """What a generated column's comment says: its expression as it was written, and by what that folds text."""
    return f"{expression} -- {folding}" if "vanguard.fold(" in expression else expression


def _columns(contract: Contract, folding: str) -> list[str]:
    """Say STORED always: PostgreSQL 18 defaults to VIRTUAL, which cannot be indexed.

    What each column is made of stands in its comment: `vanguard migrate` makes those anew where that is another now.
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
    history = [
        f"ADD COLUMN IF NOT EXISTS {prefix}_{column.name} {column.sql_type}"
        for prefix in ("b", "a")
        for column in contract.kpi_columns
    ]
    comments = [
        f"COMMENT ON COLUMN {schema}.mirror.{name} IS $comment${made_of(expression, folding)}$comment$;"
        for name, (_, expression) in generated.items()
    ]
    return [
        f"ALTER TABLE {schema}.mirror\n    " + ",\n    ".join(mirror) + ";",
        *([f"ALTER TABLE {schema}.modification\n    " + ",\n    ".join(images) + ";"] if images else []),
        *([f"ALTER TABLE {schema}.history\n    " + ",\n    ".join(history) + ";"] if history else []),
        *comments,
    ]


def kpi_ddl(contract: Contract) -> str:
    """The materialized view of the dataset's KPIs, and who may refresh it.

    A row of it is a cell: dimensions that do not matter to its grain are NULL, and `grain` says which do. Flags matter
    to every grain. There are grains of no, one, two and all dimensions: an answer reads the coarsest that knows its
    dimensions. The row of REVISION_GRAIN holds the revision that an organization's cells stand at; it comes out of the
    same query, and so out of the same snapshot.

    `cell` is a digest of the keys. As the unique key it holds no NULL, which a concurrent refresh would take for a new
    cell each time, and it fits a B-tree however long the keys are. By SHA-256: two texts of one MD5 can be made, and
    would end every refresh.
    """
    return f"""{_kpi_script(contract)}
COMMENT ON MATERIALIZED VIEW {contract.schema}.kpi IS '{kpi_shape(contract)}';"""


def kpi_shape(contract: Contract) -> str:
    """A digest of what the view is made of, kept in its comment: `vanguard migrate` makes anew what differs."""
    expressions = [column.expression for column in contract.kpi_columns]
    return hashlib.sha256("\n".join([_kpi_script(contract), *expressions]).encode()).hexdigest()


def _kpi_script(contract: Contract) -> str:
    schema = contract.schema
    return f"""{_kpi_view(contract)};
GRANT SELECT ON {schema}.kpi TO vanguard_app;
-- Only its owner may refresh a view; the service calls this, whose connections do without sequential scans. The planner
-- takes dimensions for independent, and would sort all rows for the many cells that it expects.
CREATE OR REPLACE FUNCTION {schema}.refresh_kpi() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = on SET enable_sort = off SET jit = off
AS $body$
BEGIN
    REFRESH MATERIALIZED VIEW CONCURRENTLY {schema}.kpi;
END
$body$;
REVOKE ALL ON FUNCTION {schema}.refresh_kpi() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {schema}.refresh_kpi() TO vanguard_app;"""


def forgetting_ddl(contract: Contract) -> str:
    """How the history is forgotten. The service may only add to it; this takes away what is older than its retention,
    and never what a KPI answer still adds up.
    """
    schema = contract.schema
    return f"""
CREATE OR REPLACE FUNCTION {schema}.forget_history(organization text, earlier timestamptz, most bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    forgotten bigint;
    bound timestamptz := least(earlier, public.kept_since('history'));
BEGIN
    DELETE FROM {schema}.history AS h
     WHERE h.organization_id = organization
       AND (h.revision, h.row_key) IN (
               SELECT o.revision, o.row_key
                 FROM {schema}.history AS o
                WHERE o.organization_id = organization
                  AND o.revision <= (SELECT min(k.revision) FROM {schema}.kpi AS k
                                      WHERE k.organization_id = organization AND k.grain = {REVISION_GRAIN})
                  AND o.at < bound
                ORDER BY o.revision, o.row_key
                LIMIT most);
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$body$;
REVOKE ALL ON FUNCTION {schema}.forget_history(text, timestamptz, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {schema}.forget_history(text, timestamptz, bigint) TO vanguard_app;"""


def _kpi_view(contract: Contract) -> str:
    schema, columns = contract.schema, [contract.column_of[name] for name in contract.cell_keys]
    names = [f"f_{column.name}" for column in columns]
    found = aggregates(contract)
    nothing = [
        *(f"NULL::{column.sql_type} AS f_{column.name}" for column in columns),
        "0::bigint AS row_count",
        *(f"NULL::{each.sql_type} AS {each.name}" for each in found),
    ]
    return f"""CREATE MATERIALIZED VIEW {schema}.kpi AS
WITH row_cell AS (
    SELECT {_list(["m.organization_id", *(f"m.{name}" for name in names), "count(*) AS row_count"])}
           {"".join(f", {each.over('m.f_')} AS {each.name}" for each in found)}
      FROM {schema}.mirror AS m
     GROUP BY {_list(["m.organization_id", *(f"m.{name}" for name in names)])}
)
SELECT k.*, sha256(convert_to(jsonb_build_array({_list([f"k.{name}" for name in names])})::text, 'UTF8')) AS cell
  FROM (
SELECT d.organization_id, {REVISION_GRAIN} AS grain, d.revision, {_list(nothing)}
  FROM public.dataset AS d
 WHERE {_of_dataset(contract)}
{"".join(_grain(contract, wanted, found) for wanted in _grains(contract))}
       ) AS k;
CREATE UNIQUE INDEX kpi_cell ON {schema}.kpi (organization_id, grain, cell)"""


def _of_dataset(contract: Contract) -> str:
    """Its rows of public.dataset: an organization's own changes its name when it is promoted."""
    return f"d.schema_name = '{contract.schema}'" if contract.own else f"d.name = '{contract.name}'"


def _grains(contract: Contract) -> list[tuple[str, ...]]:
    dimensions = contract.dimensions
    few = [names for size in range(min(3, len(dimensions) + 1)) for names in combinations(dimensions, size)]
    return few if dimensions in few else [*few, dimensions]


def _grain(contract: Contract, wanted: tuple[str, ...], found: tuple[Aggregate, ...]) -> str:
    def key(name: str) -> str:
        column = contract.column_of[name]
        return f"c.f_{column.name}" if name in wanted or name in contract.flags else f"NULL::{column.sql_type}"

    keys = contract.cell_keys
    grouped = [key(name) for name in keys if not key(name).startswith("NULL")]
    return f""" UNION ALL
SELECT {_list(["c.organization_id", str(grain_of(contract, wanted)), "NULL::bigint", *map(key, keys)])},
       {_list(["sum(c.row_count)::bigint", *(f"{each.again('c.')}" for each in found)])}
  FROM row_cell AS c
 GROUP BY {_list(["c.organization_id", *grouped])}
"""


def _list(items: list[str]) -> str:
    return ", ".join(items)


def _suffix(hot: HotSort) -> str:
    names = [_column(name) for name in (*hot.filters, hot.sort)]
    return "_".join([*names, "desc"] if hot.descending else names)


def _column(field: str) -> str:
    return Column(field, "text", "").name


def landings(contract: Contract) -> dict[HotSort, tuple[str, ...]]:
    """The hot sorts that a modification has an index for, with the filters of those that do without.

    One that only adds filters reads the index of the fewer filters, which includes its columns; one that descends reads
    backwards and sorts ties. The mirror has one for each, but a user's modifications are few, and each index costs each
    save.
    """
    ascending = [hot for hot in sorts(contract) if not hot.descending]
    kept = [hot for hot in ascending if not any(_adds_filters(hot, other) for other in ascending)]
    alone = [hot for hot in contract.hot if hot.descending and not any(_reversed(hot, other) for other in ascending)]
    return {
        hot: tuple(
            dict.fromkeys(
                name
                for other in ascending
                if _adds_filters(other, hot)
                for name in other.filters
                if name not in hot.filters
            )
        )
        for hot in (*kept, *alone)
    }


def _adds_filters(hot: HotSort, to: HotSort) -> bool:
    """Whether it is another one with filters, and more of them."""
    return bool(to.filters) and hot.sort == to.sort and set(hot.filters) > set(to.filters)


def _reversed(hot: HotSort, other: HotSort) -> bool:
    return (hot.sort, hot.filters) == (other.sort, other.filters)


def _mirror_index(contract: Contract, hot: HotSort) -> str:
    schema, columns = contract.schema, _index_columns(hot, "f")
    return f"CREATE INDEX IF NOT EXISTS mirror_{_suffix(hot)} ON {schema}.mirror (organization_id, {columns}, row_key);"


def _lands_index(contract: Contract, hot: HotSort, also: tuple[str, ...]) -> str:
    include = f" INCLUDE ({', '.join(f'a_{_column(name)}' for name in also)})" if also else ""
    return (
        f"CREATE INDEX IF NOT EXISTS {_lands_name(hot, also)} ON {contract.schema}.modification "
        f"(organization_id, user_id, {_index_columns(hot, 'a')}, row_key){include} WHERE lands;"
    )


def _lands_name(hot: HotSort, also: tuple[str, ...]) -> str:
    return f"modification_lands_{_suffix(hot)}" + "".join(f"_with_{_column(name)}" for name in also)


def _former_indexes(contract: Contract) -> list[str]:
    """Drop what earlier releases had for a hot sort, and this one has not."""
    kept = {_lands_name(hot, also) for hot, also in landings(contract).items()}
    former = {f"modification_lands_{_suffix(hot)}" for hot in contract.hot}
    return [f"DROP INDEX IF EXISTS {contract.schema}.{name};" for name in sorted(former - kept)]


def _index_columns(hot: HotSort, prefix: str) -> str:
    names = [_column(name) for name in (*hot.filters, hot.sort)]
    return ", ".join(f"{prefix}_{name}" for name in names) + (" DESC" if hot.descending else "")


def _merged_index(contract: Contract, sort: str) -> str:
    """To be merged with the mirror's of the same order, whatever the filters: each of these costs each save."""
    name, schema = _column(sort), contract.schema
    return (
        f"CREATE INDEX IF NOT EXISTS modification_leaves_{name} ON {schema}.modification "
        f"(organization_id, user_id, leaves, b_{name}, row_key);"
    )


def _unique_index(contract: Contract, field: str) -> list[str]:
    """Unfinished changes by the value that they give to the field; without that of another type, which it had."""
    schema, column = contract.schema, _column(field)
    kind = contract.by_name[field].type
    others = (each for each in SQL_TYPES if each != kind)
    value = contract.comparable(field, "delta")
    unfinished = _list([f"'{state}'" for state in sorted(UNFINISHED)])
    return [
        *(f"DROP INDEX IF EXISTS {schema}.change_{other}_{column};" for other in others),
        f"CREATE INDEX IF NOT EXISTS change_{kind}_{column} ON {schema}.change (organization_id, {value}, row_key) "
        f"WHERE state IN ({unfinished}) AND {value} IS NOT NULL;",
    ]


def _events_index(contract: Contract) -> str:
    """Rows of appended records by what they are about, and when."""
    return (
        f"CREATE INDEX IF NOT EXISTS mirror_events ON {contract.schema}.mirror "
        "(organization_id, event_key, event_at) WHERE event_key IS NOT NULL;"
    )


def _search_index(contract: Contract) -> str:
    """A trigram index where the extensions are; without them search still works, by the organization's rows.

    A row has more than a hundred trigrams. They are kept in a list until there are 256 kB of them, and put into their
    places together, which costs a quarter; a search looks through the list, in a tenth of a millisecond.
    """
    return f"""DO $$
BEGIN
    IF (SELECT count(*) FROM pg_extension WHERE extname IN ('pg_trgm', 'btree_gin')) = 2 THEN
        CREATE INDEX IF NOT EXISTS mirror_search ON {contract.schema}.mirror
            USING gin (organization_id, search gin_trgm_ops) WITH ({PENDING_LIST});
        IF (SELECT c.reloptions FROM pg_class AS c WHERE c.oid = '{contract.schema}.mirror_search'::regclass)
           IS DISTINCT FROM string_to_array('{PENDING_LIST}', ', ') THEN
            ALTER INDEX {contract.schema}.mirror_search SET ({PENDING_LIST});
        END IF;
    END IF;
END
$$;"""


def _primary_keys_last(contract: Contract) -> str:
    """Primary keys younger than the other indexes of their tables.

    In an empty table all indexes cost the same, and the planner takes the youngest that has the columns. Those of the
    hot sorts have them, too, with others between: a lookup by key then reads all that the user or the organization has.
    """
    return f"""DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT c.conrelid::regclass AS relation, c.conname, pg_get_constraintdef(c.oid) AS definition
          FROM pg_constraint AS c
         WHERE c.conrelid IN ('{contract.schema}.mirror'::regclass, '{contract.schema}.modification'::regclass)
           AND c.contype = 'p'
           AND c.conindid < (SELECT max(i.indexrelid) FROM pg_index AS i WHERE i.indrelid = c.conrelid)
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s',
                       found.relation, found.conname, found.conname, found.definition);
    END LOOP;
END
$$;"""
