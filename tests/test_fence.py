"""The second fence: every statement, and every text that is composed, is proved to be of the caller's organization.

What the catalog has is what the proof knows; what is of all organizations on purpose is listed here.
"""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple, cast, get_args

import msgspec
import psycopg
import pytest
import structlog
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from pglast import parse_plpgsql, parse_sql

from app import failures
from app.audit import LIST_ENTRIES, NARROWED
from app.base import fence
from app.base.database import Connection, Database, Fenced
from app.base.errors import InvalidFilter
from app.base.fence import Unbound, check, guard, reason
from app.base.fence.proof import Proof, body_proof
from app.base.fence.relations import (
    FREE,
    FUNCTIONS,
    KEY,
    NAMESAKES,
    OF_ALL,
    OF_DATASETS,
    OF_READERS,
    TEMPORARY,
    TENANTS,
)
from app.base.places import Holder, holder
from app.base.settings import Settings
from app.base.statements import STATEMENTS, Statement, read_statement, statement
from app.contracts import PFA, Contract
from app.contracts.aggregates import aggregates
from app.contracts.filters import Listing, field_type, read_listing
from app.contracts.images import parts, qualified
from app.contracts.rules import unique_rules
from app.engine.cursors import Cursor
from app.engine.export import ExportComposer, Form
from app.engine.figures import FigureComposer
from app.engine.page import PageComposer
from app.engine.selection import SELECT_DRAFTS, SELECTIONS
from app.engine.uniqueness import find_duplicates_of
from app.engine.view import Composed
from app.feed.reader import SEEN, SEEN_OF_DATASET
from app.joins.sampling import Extent, probe_statement, profile_statement
from app.joins.texts import can_join
from app.kpis import read_wanted
from app.lifecycle.differences import COMPARE_ROWS, SAMPLE_DIFFERENCES, SUM_FIGURES
from app.lifecycle.moves import LIST_COMMITS, MOVE_CHANGES, MOVE_EDITS, READ_MODIFICATIONS
from app.rows import READ_OVERLAP
from tests.conftest import new_database
from tests.support import questions
from tests.support.model import Query
from tests.support.questions import QUESTIONS
from tests.support.world import CONTRACTS, FLEET, LAB, SECRET, World
from tests.test_kpi_model import POOLS, Ask, asks
from tests.test_model import List as Listed
from tests.test_model import Pool, lists

# What is of all organizations on purpose. A request of one runs none of them (`guard`).
OF_ALL_ORGANIZATIONS = {
    "accounts/list_accounts", "accounts/read_account", "audit/list_everywhere", "audit/record_everywhere",
    "datasets/list_own", "dev/read_occupancy", "feed/list_heads", "ingestion/find_work", "ingestion/forget_received",
    "invitations/forget_everywhere", "kpis/read_lag", "kpis/read_views", "kpis/refresh_kpis", "locks/lock_administered",
    "migrate/begin_incarnation", "migrate/find_outdated", "migrate/list_schemas", "migrate/note_storage",
    "migrate/raise_changes", "migrate/raise_counters", "migrate/raise_revisions", "migrate/read_keys",
    "organizations/list_organizations", "quotas/list_held", "readers/list_readers", "readers/remove_reader",
    "readers/save_reader", "worker/list_organizations",
}  # fmt: skip
RUNNABLE = sorted(name for name in STATEMENTS if not name.startswith("schema/"))
OWN = msgspec.structs.replace(FLEET, schema="own_7")
NAMES = ("organization", "user", "organizations")  # of $1, $2 and $3 in the examples


def prove(item: Statement | Composed) -> None:
    check(item.name, item.text, item.parameters)


def faults_of(text: str, parameters: tuple[str, ...] = NAMES) -> list[str]:
    """What the proof says against a text."""
    return [fault for raw in parse_sql(text) for fault in Proof(parameters).run(raw.stmt)]


# -- statements --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_statement_is_of_the_callers_organization(name: str) -> None:
    """As it stands, on each contract's schema, and on one of an organization's own."""
    item = statement(name)
    prove(item)
    for contract in (*CONTRACTS, OWN):
        of_contract = item.markers and item.markers <= parts(contract).keys()
        prove(qualified(item, contract) if of_contract else item.within(contract.schema))


def test_what_is_of_all_organizations_says_why() -> None:
    """Exactly these, each with a sentence in its header; and none that could be proved says so."""
    said = {name: why for name in RUNNABLE if (why := reason(statement(name).text))}
    assert said.keys() == OF_ALL_ORGANIZATIONS
    assert all(len(why.split()) >= 4 for why in said.values())
    provable = [name for name in said if not faults_of(statement(name).text, statement(name).parameters)]
    assert provable == []


def test_a_reason_is_a_sentence_of_the_header() -> None:
    assert reason("-- Lists.\n-- All organizations: the operator's\n-- list. No parameters.\nSELECT 1;\n") == (
        "the operator's list"
    )
    assert reason("-- Lists.\nSELECT 1; -- All organizations: as it says.\n") is None
    assert reason("-- All organizations: somebody forgot the full stop\nSELECT 1;\n") is None


# -- what binds, and what does not ------------------------------------------------------------------------------------

BOUND = [
    "SELECT FROM pfa.mirror AS m TABLESAMPLE system ($2) REPEATABLE (1) WHERE m.organization_id = $1",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1",
    "SELECT FROM pfa.mirror AS m WHERE $1::text = m.organization_id AND (m.row_key = $2 OR TRUE)",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id IN ($1)",
    "SELECT FROM pfa.mirror WHERE organization_id = $1",
    "SELECT FROM pfa.mirror AS m WHERE (m.organization_id, m.row_key) = ($1, $2)",
    "SELECT FROM pfa.mirror AS m WHERE FALSE",
    "SELECT FROM pfa.mirror AS m JOIN pfa.change AS c ON c.organization_id = m.organization_id"
    " WHERE c.organization_id = $1",
    "SELECT FROM pfa.mirror AS m LEFT JOIN pfa.change AS c ON c.organization_id = m.organization_id"
    " WHERE m.organization_id = $1",
    "SELECT FROM pfa.mirror AS m RIGHT JOIN pfa.change AS c ON c.organization_id = m.organization_id"
    " WHERE c.organization_id = $1",
    "SELECT FROM pfa.mirror AS m JOIN pfa.change AS c USING (organization_id, row_key) WHERE m.organization_id = $1",
    "SELECT FROM pfa.mirror AS m JOIN pfa.change AS c USING (organization_id) WHERE c.organization_id = $1",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1"
    " AND EXISTS (SELECT FROM pfa.change AS c WHERE c.organization_id = m.organization_id)",
    "SELECT FROM pfa.mirror AS m CROSS JOIN LATERAL (SELECT c.id FROM pfa.change AS c"
    " WHERE c.organization_id = m.organization_id) AS c WHERE m.organization_id = $1",
    "WITH mine AS (SELECT c.* FROM pfa.change AS c WHERE c.organization_id = $1)"
    " SELECT FROM pfa.mirror AS m JOIN mine ON mine.organization_id = m.organization_id",
    "WITH mine (whose) AS (SELECT c.organization_id FROM pfa.change AS c WHERE c.organization_id = $1)"
    " SELECT FROM pfa.mirror AS m WHERE m.organization_id IN (SELECT whose FROM mine)",
    "WITH RECURSIVE up AS (SELECT c.organization_id, c.id FROM pfa.change AS c WHERE c.organization_id = $1"
    " UNION ALL SELECT up.organization_id, d.id FROM up JOIN pfa.change AS d"
    " ON d.organization_id = up.organization_id) SELECT FROM up",
    "WITH RECURSIVE up AS (SELECT $1::text AS o, 'A' AS k UNION ALL SELECT up.o, $2 FROM up JOIN pfa.mirror AS m"
    " ON m.organization_id = up.o AND m.row_key = up.k) SELECT FROM up",
    "WITH rows AS (SELECT m.organization_id, m.row_key FROM pfa.mirror AS m WHERE m.organization_id = ANY ($3::text[]))"
    " SELECT FROM rows AS a JOIN rows AS b ON b.row_key = a.row_key AND b.organization_id = a.organization_id",
    "WITH mine AS (SELECT m.organization_id, m.row_key FROM pfa.mirror AS m WHERE m.organization_id = $1)"
    " SELECT FROM mine AS a CROSS JOIN mine AS b JOIN pfa.change AS c ON c.organization_id = b.organization_id",
    "SELECT FROM (SELECT organization_id FROM pfa.change WHERE organization_id = $1 UNION"
    " SELECT $1) AS u (o) JOIN pfa.mirror AS m ON m.organization_id = u.o",
    "SELECT FROM pfa.mirror AS m JOIN (VALUES ($1, 1), ($1, 2)) AS v (o, n) ON v.o = m.organization_id",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id = (SELECT max(1)::text || '' WHERE FALSE) AND FALSE",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id ="
    " (SELECT d.organization_id FROM public.dataset AS d WHERE d.organization_id = $1 LIMIT 1)",
    "SELECT FROM unnest($3::text[]) AS o (id) JOIN pfa.mirror AS m ON m.organization_id = o.id"
    " JOIN public.organization AS n ON n.id = o.id",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id = ANY ($3::text[])",
    "SELECT FROM public.account AS a LEFT JOIN public.membership AS m ON m.organization_id = $1",
    "SELECT pfa.in_flight($1, 'A'), vanguard.open_sessions($1, 'pfa', $2, now())",
    "SELECT pfa.in_flight(key => 'A', organization => $1)",
    "SELECT pfa.waits(o.id, 'A', 'ann', 1) FROM unnest($3::text[]) AS o (id)",
    "INSERT INTO pfa.pulled (organization_id, row_key) VALUES ($1, 'A'), ($1, 'B') ON CONFLICT DO NOTHING",
    "INSERT INTO pfa.pulled AS p (row_key, organization_id) SELECT m.row_key, m.organization_id FROM pfa.mirror AS m"
    " WHERE m.organization_id = $1 ON CONFLICT (organization_id, row_key) DO UPDATE SET row_key = excluded.row_key"
    " RETURNING p.row_key",
    "UPDATE pfa.mirror AS m SET data = c.delta FROM pfa.change AS c WHERE m.organization_id = c.organization_id"
    " AND c.organization_id = $1",
    "UPDATE pfa.mirror SET organization_id = $1 WHERE organization_id = $1",
    "DELETE FROM pfa.mirror AS m USING pfa.change AS c WHERE m.organization_id = $1 AND c.organization_id = $1",
    "WITH was AS (SELECT m.ctid AS place FROM pfa.mirror AS m WHERE m.organization_id = $1)"
    " DELETE FROM pfa.mirror AS m USING was WHERE m.ctid = was.place",
    "MERGE INTO pfa.mirror AS m USING (SELECT $1 AS o, 'A' AS k) AS s ON m.organization_id = s.o AND m.row_key = s.k"
    " WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (organization_id, row_key) VALUES (s.o, s.k)",
    "SELECT FROM pg_catalog.pg_class AS c WHERE c.relname = $2",
    "SELECT FROM public.account AS a FOR UPDATE OF a",
    "EXPLAIN SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1",
    "SET LOCAL ROLE NONE",
]
LOOSE = [
    "SELECT FROM pfa.mirror AS m",
    "TABLE pfa.mirror",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id = $2",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id <> $1",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id >= $1",
    "SELECT FROM pfa.mirror AS m WHERE m.row_key = $1",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id = 'acme'",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id = m.organization_id",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1 OR m.row_key = 'A'",
    "SELECT FROM pfa.mirror AS m WHERE NOT (m.organization_id = $1)",
    "SELECT FROM pfa.mirror AS m WHERE $1 IS NULL OR m.organization_id = $1",
    "SELECT FROM pfa.mirror AS m WHERE CASE WHEN TRUE THEN m.organization_id = $1 END",
    "SELECT FROM pfa.mirror AS m WHERE coalesce(m.organization_id = $1, TRUE)",
    "SELECT FROM pfa.mirror AS m WHERE (m.organization_id = $1) IS NOT TRUE",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id LIKE $1",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id::char = $1::char",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id::varchar(1) = $1",
    'SELECT FROM pfa.mirror AS m WHERE m.organization_id COLLATE "und-ci" = $1',
    'SELECT FROM pfa.mirror AS m WHERE m.organization_id COLLATE public."C" = $1',
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id::public.text = $1",
    "SELECT FROM pfa.mirror AS m WHERE lower(m.organization_id) = $1",
    "SELECT FROM public.dataset AS d WHERE d.organization_id = $1 AND EXISTS (SELECT FROM public.organization AS o"
    " WHERE o.id = (SELECT organization_id FROM jsonb_populate_record(NULL::public.dataset, $2::jsonb)))",
    "SELECT FROM public.organization AS o WHERE o.id = $1 AND EXISTS (SELECT FROM pfa.mirror AS m"
    " WHERE m.organization_id = (SELECT id FROM (SELECT a.* FROM public.account AS a) AS b LIMIT 1))",
    "SELECT FROM pfa.mirror AS x JOIN public.dataset ON dataset.organization_id = x.organization_id JOIN pfa.dataset"
    " ON TRUE WHERE x.organization_id = $1 AND public.dataset.organization_id = $1",
    "SELECT FROM public.organization AS o WHERE o.id = $1 AND EXISTS ("
    "SELECT FROM public.account AS a JOIN pfa.mirror AS m ON m.organization_id = id)",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id IN ($1, 'beta')",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id NOT IN ($1)",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id <> ALL ($3::text[])",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id <> ANY ($3::text[])",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id = ANY (ARRAY[$1, 'beta'])",
    "SELECT FROM pfa.mirror AS m WHERE (m.organization_id, m.row_key) IN (($1, 'A'), ('beta', 'B'))",
    "SELECT FROM pfa.mirror AS m WHERE (m.organization_id, m.row_key) > ($1, 'A')",
    "SELECT m.organization_id = $1 FROM pfa.mirror AS m",
    "SELECT count(*) FILTER (WHERE m.organization_id = $1) FROM pfa.mirror AS m",
    "SELECT FROM pfa.mirror AS m GROUP BY m.organization_id HAVING m.organization_id = $1",
    "SELECT FROM pfa.mirror AS m LEFT JOIN pfa.change AS c ON c.organization_id = $1 AND m.organization_id = $1",
    "SELECT FROM pfa.mirror AS m LEFT JOIN pfa.change AS c ON c.organization_id = m.organization_id"
    " AND c.organization_id = $1",
    "SELECT FROM pfa.mirror AS m FULL JOIN pfa.change AS c ON c.organization_id = $1 AND m.organization_id = $1",
    "SELECT FROM pfa.mirror AS m LEFT JOIN pfa.change AS c USING (organization_id) WHERE c.row_key = $1",
    "SELECT FROM pfa.mirror AS m LEFT JOIN pfa.change AS c ON TRUE WHERE m.organization_id = $1",
    "SELECT FROM pfa.mirror AS m NATURAL JOIN pfa.change AS c WHERE m.organization_id = $1",
    "SELECT FROM pfa.mirror AS m, pfa.change AS c WHERE m.organization_id = $1",
    "SELECT FROM pfa.mirror AS m WHERE EXISTS (SELECT FROM pfa.change AS c WHERE c.organization_id = $1)",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1 AND EXISTS (SELECT FROM pfa.change AS c)",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key IN (SELECT c.row_key FROM pfa.change AS c)",
    "SELECT (SELECT max(c.id) FROM pfa.change AS c) FROM pfa.mirror AS m WHERE m.organization_id = $1",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1 ORDER BY (SELECT max(c.id) FROM pfa.change AS c)",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1 LIMIT (SELECT count(*) FROM pfa.change)",
    "SELECT FROM (SELECT * FROM pfa.mirror) AS m WHERE m.organization_id = $1",
    "SELECT FROM pfa.mirror AS m, (SELECT FROM pfa.change AS c WHERE c.organization_id = m.organization_id) AS n"
    " WHERE m.organization_id = $1",
    "WITH all_of_it AS (SELECT * FROM pfa.change) SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1",
    "WITH o AS (SELECT c.user_id AS organization_id FROM pfa.change AS c WHERE c.organization_id = $1)"
    " SELECT FROM pfa.mirror AS m JOIN o ON o.organization_id = m.organization_id",
    "SELECT FROM pfa.mirror WHERE organization_id = $1 UNION ALL SELECT FROM pfa.mirror",
    "SELECT FROM (SELECT organization_id FROM pfa.change WHERE organization_id = $1 UNION SELECT 'beta') AS u"
    " JOIN pfa.mirror AS m ON m.organization_id = u.organization_id",
    "SELECT FROM (SELECT FROM pfa.change WHERE organization_id = $1 UNION ALL SELECT 'beta') AS u (o)"
    " JOIN pfa.mirror AS m ON m.organization_id = u.o",
    "SELECT FROM pfa.mirror AS m JOIN (VALUES ($1), ('beta')) AS v (o) ON v.o = m.organization_id",
    "SELECT FROM jsonb_to_record($2) AS r (organization_id text) JOIN pfa.mirror AS m"
    " ON m.organization_id = r.organization_id",
    "SELECT FROM unnest($2::text[]) AS o (id) JOIN pfa.mirror AS m ON m.organization_id = o.id",
    "SELECT FROM pfa.mirror AS m JOIN pfa.change AS c ON c.row_key = m.row_key"
    " WHERE m.organization_id = ANY ($3::text[]) AND c.organization_id = ANY ($3::text[])",
    "SELECT FROM unnest($3::text[]) AS o (id), unnest($3::text[]) AS p (id) JOIN pfa.mirror AS m"
    " ON m.organization_id = p.id JOIN pfa.change AS c ON TRUE WHERE c.organization_id = o.id",
    "WITH them AS (SELECT u.o FROM unnest($3::text[]) AS u (o)) SELECT FROM pfa.mirror AS m JOIN pfa.change AS c"
    " ON c.row_key = m.row_key WHERE m.organization_id IN (SELECT o FROM them)"
    " AND c.organization_id IN (SELECT o FROM them)",
    "WITH them AS (SELECT u.o FROM unnest($3::text[]) AS u (o)) SELECT FROM them AS a CROSS JOIN them AS b"
    " JOIN pfa.mirror AS m ON m.organization_id = a.o JOIN pfa.change AS c ON c.organization_id = b.o",
    "WITH rows AS (SELECT m.organization_id, m.row_key, m.data FROM pfa.mirror AS m"
    " WHERE m.organization_id = ANY ($3::text[])) SELECT FROM rows AS a JOIN rows AS b ON b.row_key = a.row_key",
    "WITH RECURSIVE up AS (SELECT c.organization_id, c.id FROM pfa.change AS c WHERE c.organization_id = $1"
    " UNION ALL SELECT d.organization_id, d.id FROM up JOIN pfa.change AS d ON d.id = up.id) SELECT FROM up",
    "WITH RECURSIVE up AS (SELECT $1::text AS o, 1 AS n UNION ALL SELECT $2, up.n + 1 FROM up JOIN pfa.mirror AS m"
    " ON m.organization_id = up.o WHERE up.n < 3) SELECT FROM up",
    "WITH RECURSIVE up AS (SELECT c.organization_id FROM pfa.change AS c WHERE c.organization_id = $1 UNION ALL"
    " SELECT coalesce($2, up.organization_id) FROM up JOIN pfa.change AS d"
    " ON d.organization_id = up.organization_id) SELECT FROM up",
    "WITH RECURSIVE up AS (WITH a AS (SELECT FROM pfa.mirror) SELECT $1 AS o UNION ALL SELECT o FROM up) TABLE up",
    "WITH RECURSIVE up AS (SELECT $1 AS o UNION ALL SELECT o FROM up ORDER BY pfa.in_flight($2, 'A')) TABLE up",
    "SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1 WINDOW w AS (ORDER BY pfa.in_flight($2, 'A'))",
    "SELECT FROM pfa.mirror AS m WHERE (m.organization_id, m.row_key) = (SELECT $1, 'A' UNION ALL SELECT 'B', 'A')",
    "SELECT pfa.in_flight($2, 'A')",
    "SELECT pfa.in_flight('beta', $1)",
    "SELECT pfa.refresh_kpi()",
    "SELECT query_to_xml_and_xmlschema('SELECT * FROM pfa.mirror', TRUE, TRUE, '')",
    "SELECT FROM ts_stat('SELECT to_tsvector(m.data::text) FROM pfa.mirror AS m')",
    "SELECT ts_rewrite('a'::tsquery, 'SELECT m.data, m.data FROM pfa.mirror AS m')",
    "SELECT FROM dblink('', 'SELECT data FROM pfa.mirror') AS m (data jsonb)",
    "SELECT pg_read_file($2)",
    "SELECT query_to_xml('SELECT * FROM pfa.mirror', TRUE, TRUE, '')",
    "INSERT INTO pfa.pulled (organization_id, row_key) VALUES ($2, 'A')",
    "INSERT INTO pfa.pulled (organization_id, row_key) VALUES ($1, 'A'), ('beta', 'B')",
    "INSERT INTO pfa.pulled (row_key) VALUES ($1)",
    "INSERT INTO pfa.pulled VALUES ($1, 'A')",
    "INSERT INTO pfa.pulled DEFAULT VALUES",
    "INSERT INTO pfa.pulled (organization_id, row_key) SELECT $1, c.row_key FROM pfa.change AS c",
    "INSERT INTO pfa.change (organization_id, id) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET op = 'delete'",
    "INSERT INTO pfa.change (organization_id, id) VALUES ($1, 1) ON CONFLICT ON CONSTRAINT c DO UPDATE SET op = 'x'",
    "INSERT INTO pfa.pulled (organization_id, row_key) VALUES ($1, 'A') ON CONFLICT (organization_id, row_key)"
    " DO UPDATE SET organization_id = 'beta'",
    "INSERT INTO pfa.pulled (organization_id, row_key) VALUES ($1, 'A')"
    " RETURNING (SELECT count(*) FROM pfa.mirror)",
    "UPDATE pfa.mirror SET data = '{}'",
    "UPDATE pfa.mirror AS m SET organization_id = $2 WHERE m.organization_id = $1",
    "UPDATE pfa.mirror AS m SET (organization_id, data) = (SELECT 'beta', '{}') WHERE m.organization_id = $1",
    "UPDATE pfa.mirror AS m SET data = c.delta FROM pfa.change AS c WHERE m.organization_id = $1",
    "UPDATE pfa.mirror AS m SET data = (SELECT c.delta FROM pfa.change AS c LIMIT 1) WHERE m.organization_id = $1",
    "DELETE FROM pfa.mirror AS m WHERE m.row_key = 'A'",
    "DELETE FROM pfa.mirror AS m USING pfa.change AS c WHERE c.organization_id = $1",
    "WITH was AS (SELECT m.ctid AS place FROM pfa.mirror AS m) DELETE FROM pfa.mirror AS m USING was"
    " WHERE m.ctid = was.place",
    "WITH was AS (SELECT c.ctid AS place FROM pfa.change AS c WHERE c.organization_id = $1)"
    " DELETE FROM pfa.mirror AS m USING was WHERE m.ctid = was.place",
    "WITH gone AS (DELETE FROM pfa.mirror RETURNING row_key) SELECT FROM gone",
    "MERGE INTO pfa.mirror AS m USING (SELECT $1 AS o) AS s ON m.row_key = s.o WHEN MATCHED THEN DELETE",
    "MERGE INTO pfa.mirror AS m USING pfa.change AS c ON m.organization_id = $1 AND c.organization_id = $1"
    " WHEN NOT MATCHED THEN INSERT (organization_id, row_key) VALUES ($1, c.row_key)",
    "MERGE INTO pfa.mirror AS m USING (SELECT $1 AS o) AS s ON m.organization_id = s.o"
    " WHEN NOT MATCHED THEN INSERT (organization_id) VALUES ($2)",
    "SELECT FROM pfa.surprise WHERE organization_id = $1",
    "SELECT FROM public.surprise",
    "SELECT FROM mirror WHERE organization_id = $1",
    "SELECT FROM pg_stats",
    "SELECT FROM information_schema.tables",
    "SELECT * INTO public.copy FROM pfa.mirror WHERE organization_id = $1",
    "SELECT FROM pfa.mirror AS m (organization_id) WHERE m.organization_id = $1",
    "SELECT FROM pfa.mirror TABLESAMPLE system (1)",
    "SELECT FROM pfa.mirror AS m TABLESAMPLE system ((SELECT count(*) FROM pfa.change)) WHERE m.organization_id = $1",
    "SELECT FROM pfa.mirror AS m JOIN pfa.mirror AS o TABLESAMPLE system (1) ON TRUE WHERE m.organization_id = $1",
    "COPY pfa.mirror TO STDOUT",
    "TRUNCATE pfa.mirror",
    "REFRESH MATERIALIZED VIEW pfa.kpi",
    "DO $$ BEGIN DELETE FROM pfa.mirror; END $$",
    "CALL public.something()",
    "CREATE TABLE copy AS SELECT * FROM pfa.mirror",
    "DECLARE c CURSOR FOR SELECT FROM pfa.mirror",
    "LOCK pfa.mirror",
    "SELECT 1; DELETE FROM pfa.mirror",
]  # fmt: skip


@pytest.mark.parametrize("text", BOUND)
def test_what_binds(text: str) -> None:
    assert faults_of(text) == []


@pytest.mark.parametrize("text", LOOSE)
def test_what_does_not_bind(text: str) -> None:
    assert faults_of(text)


def test_an_unbound_statement_is_told_with_what_to_do() -> None:
    text = "-- Rows. $1 organization, $2 key.\nSELECT FROM pfa.mirror AS m WHERE m.row_key = $2 AND $1 = $1;\n"
    with pytest.raises(Unbound) as caught:
        prove(read_statement("rows/leak", text))
    assert str(caught.value).startswith(
        "rows/leak is not bound to the caller's organization: mirror AS m: its organization_id. Compare"
    )
    assert "-- All organizations: why." in str(caught.value)


# -- texts that are composed -------------------------------------------------------------------------------------------

POOL_OF_OWN = dataclasses.replace(POOLS["fleet"], contract=OWN)
EVERY_POOL = pytest.mark.parametrize("pool", [*POOLS.values(), POOL_OF_OWN], ids=lambda pool: pool.contract.schema)
MANY = settings(max_examples=100, deadline=None, derandomize=True, database=None)
TEXTS = {"number": "1.5", "integer": "7", "date": "2026-01-31", "datetime": "2026-01-31T10:00:00Z", "boolean": "true"}


def cursor_of(pages: PageComposer, null: bool) -> Cursor:
    """One that fits the order."""
    kinds = [field_type(pages.contract, sort.field) for sort in pages.order if sort.field != "id"]
    return Cursor(tuple(None if null else TEXTS.get(str(kind), "x") for kind in kinds), "A")


def listing_of(contract: Contract, query: Query) -> Listing:
    """The listing that a query string asks for; of one that is refused there is no text."""
    try:
        return read_listing(contract, query)
    except InvalidFilter:
        reject()


@pytest.mark.no_cover
@pytest.mark.slow("hundreds of random questions, with what each composes")
@EVERY_POOL
def test_every_listing_is_of_the_callers_organization(pool: Pool) -> None:
    """Given any question, then its pages, before a cursor and behind one, its totals and estimates, and its exports in
    every form.
    """

    @MANY
    @given(lists(pool, st.just(0)), st.booleans(), st.booleans(), st.booleans())
    def prove_each(wanted: Listed, counted: bool, base_count: bool, null: bool) -> None:
        listing = listing_of(pool.contract, wanted.query)
        pages = PageComposer(pool.contract, listing, "acme", "ann", keyed=null)
        prove(pages.page(None, counted=counted, base_count=base_count))
        prove(pages.page(cursor_of(pages, null), counted=False, base_count=False))
        prove(pages.estimate())
        exports = ExportComposer(pool.contract, listing, "acme", "ann")
        prove(exports.estimate())
        for form in get_args(Form):
            prove(exports.rows(form))

    prove_each()


@pytest.mark.no_cover
@pytest.mark.slow("hundreds of random questions, with what each composes")
@EVERY_POOL
def test_every_figure_is_of_the_callers_organization(pool: Pool) -> None:
    """From the view where that knows, and from rows; with a session and without one."""

    @MANY
    @given(asks(pool, st.just(0)), st.sampled_from((None, "s-1")))
    def prove_each(asked: Ask, session: str | None) -> None:
        parameters = [("groupBy", key) for key in asked.keys] + [("include", name) for name in asked.include]
        try:
            wanted = read_wanted(pool.contract, [*asked.query, *parameters])
        except InvalidFilter:
            reject()
        figures = FigureComposer(pool.contract, msgspec.structs.replace(wanted, session=session), "acme", "ann")
        prove(figures.kpis(from_view=False))
        if figures.knows_view:
            prove(figures.kpis(from_view=True))

    prove_each()


def joined() -> Iterator[Statement]:
    """What profiles and probes all fields that can join, of rows and of pages, by keys and by other fields."""
    pages = Extent(rows=1, exactly=False, most=1, percent=1.0)
    for child, parent in product((*CONTRACTS, LAB), repeat=2):
        sets = [(field.name,) for field in child.fields if can_join(field)]
        for extent in (pages, msgspec.structs.replace(pages, percent=None)):
            yield profile_statement(child, extent, [*sets, tuple(name for (name,) in sets[:2])])
            for field in (*parent.key_fields, *(each.name for each in parent.fields if can_join(each))):
                yield probe_statement(child, extent, sets, parent, (field,))


# What reads another version of the dataset, too.
BESIDE = (COMPARE_ROWS, SAMPLE_DIFFERENCES, MOVE_EDITS, READ_MODIFICATIONS, MOVE_CHANGES, LIST_COMMITS)


def test_what_else_is_composed_is_of_the_callers_organization() -> None:
    """Selections, duplicates, two versions side by side, readers of the feed, the audit's conditions, overlaps."""
    composed = [
        *(SELECT_DRAFTS.fill(selection=text) for text in SELECTIONS.values()),
        *(item.fill(selection=text) for text in failures.SELECTIONS.values()
          for item in (failures.SELECT_FAILED, failures.RETRY_CHANGES)),
        *(find_duplicates_of(contract, rule).within(contract.schema)
          for contract in (*CONTRACTS, LAB) for rule in unique_rules(contract)),
        *(item.fill(other="own_8").within("own_7") for item in BESIDE),
        *(SUM_FIGURES.fill(figures=", ".join(f"{each.over('m.f_')} AS {each.name}" for each in aggregates(contract)))
          .within(contract.schema) for contract in CONTRACTS),
        SEEN, SEEN_OF_DATASET, READ_OVERLAP,
        *joined(),
        *(LIST_ENTRIES.fill(given=text) for text in (*NARROWED.values(), "TRUE", " AND ".join(NARROWED.values()))),
    ]  # fmt: skip
    for item in composed:
        prove(item)
    filled = {name for name in RUNNABLE if statement(name).markers - parts(PFA).keys()}
    of_operators = {"audit/list_everywhere"}
    of_listings = {"rows/read_page", "rows/estimate_count", "exports/read_rows", "exports/estimate_rows"}
    of_questions = {item.name for name in QUESTIONS for item in questions.composed(name)}
    of_questions |= {item.name for item in questions.words()}
    assert filled == {item.name for item in composed} | of_listings | of_operators | of_questions | {
        "kpis/read_kpis"
    }, "and nothing else is filled"


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_over_many_datasets_is_of_the_callers_organization(name: str) -> None:
    """Rows and figures, to-one joins and branches, what tells their plan, and what asks whether parents are unique."""
    for item in questions.composed(name):
        prove(item)


def test_a_word_is_sought_among_the_callers_organizations_values() -> None:
    for item in questions.words():
        prove(item)


def test_what_is_composed_names_its_parameters() -> None:
    page = PageComposer(PFA, Listing(), "acme", "ann").page(None, counted=True, base_count=True)
    assert page.parameters[:3] == ("organization", "dataset", "user")
    with pytest.raises(Unbound):
        prove(msgspec.structs.replace(page, statement=msgspec.structs.replace(page.statement, parameters=())))


# -- the catalog -------------------------------------------------------------------------------------------------------

# PostgreSQL's own, and that of tests/support/moves.py.
NOBODYS = ("pg_catalog", "information_schema", "pg_toast", "audit")
OF_SCHEMAS = "n.nspname <> ALL (%s) AND n.nspname NOT LIKE 'pg_%%'"
NOT_OF_EXTENSIONS = "NOT EXISTS (SELECT FROM pg_depend AS e WHERE e.objid = {oid} AND e.deptype = 'e')"


@pytest.fixture(scope="module")
def catalog(server_url: str, template: str) -> Iterator["psycopg.Connection[Any]"]:
    """A migrated database, to be looked at."""
    with new_database(server_url, template) as url, psycopg.connect(url) as connection:
        yield connection


def relations_of(catalog: "psycopg.Connection[Any]") -> dict[tuple[str, str], bool]:
    """Whether each table and view has a column organization_id."""
    found = catalog.execute(
        f"""
        SELECT n.nspname, c.relname, EXISTS (
                   SELECT FROM pg_attribute AS a
                    WHERE a.attrelid = c.oid AND a.attname = 'organization_id' AND NOT a.attisdropped)
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND {OF_SCHEMAS} AND {NOT_OF_EXTENSIONS.format(oid="c.oid")}
        """,
        (list(NOBODYS),),
    )
    return {(schema, name): has for schema, name, has in found}


def test_the_proof_knows_every_relation_of_the_catalog(catalog: "psycopg.Connection[Any]") -> None:
    """Given tables, views and materialized views as migrations and contracts make them, then each is declared."""
    found = relations_of(catalog)
    assert {name for (schema, name), has in found.items() if schema == "public" and has} == TENANTS.keys() - {
        "organization"
    }
    assert {name for (schema, name), has in found.items() if schema == "public" and not has} == FREE | {"organization"}
    assert {KEY, "id"} == set(TENANTS.values())
    schemas = {schema for schema, _ in found} - {"public"}
    assert schemas == {contract.schema for contract in CONTRACTS}
    for schema in schemas:
        assert {name for at, name in found if at == schema} == OF_DATASETS
        assert all(has for (at, _), has in found.items() if at == schema)


class Function(NamedTuple):
    """A function of ours, as the catalog has it."""

    schema: str
    name: str
    language: str
    arguments: tuple[str, ...]
    definition: str


def functions_of(catalog: "psycopg.Connection[Any]") -> list[Function]:
    found = catalog.execute(
        f"""
        SELECT n.nspname, p.proname, l.lanname, coalesce(p.proargnames, '{{}}'), pg_get_functiondef(p.oid)
          FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace JOIN pg_language AS l ON l.oid = p.prolang
         WHERE p.prokind <> 'a' AND {OF_SCHEMAS} AND {NOT_OF_EXTENSIONS.format(oid="p.oid")}
        """,
        (list(NOBODYS),),
    )
    return [
        Function(schema, name, language, tuple(arguments), definition)
        for schema, name, language, arguments, definition in found
    ]


def faults_in(function: Function) -> list[str]:
    """What is not bound to the function's parameter `organization`."""
    statements, variables = bodies_of(function)
    plpgsql = function.language == "plpgsql"
    proofs = (body_proof(function.name, function.arguments, variables, plpgsql=plpgsql) for _ in statements)
    return [fault for each, proof in zip(statements, proofs, strict=True) for fault in proof.run(each)]


def bodies_of(function: Function) -> tuple[list[Any], list[str]]:
    """The statements of a function's body, and the variables that it declares."""
    if function.language == "plpgsql":
        tree = parse_plpgsql(function.definition)
        variables = [each["refname"] for each in found_in(tree, "PLpgSQL_var") if "lineno" in each]
        assert not [*found_in(tree, "PLpgSQL_stmt_dynexecute")], "what is put together there nobody can prove"
        return [stmt for each in found_in(tree, "PLpgSQL_expr") for stmt in expression_of(each)], variables
    made: Any = parse_sql(function.definition)[0].stmt
    if isinstance(made.sql_body, tuple):
        return [each for atomic in made.sql_body for each in atomic], []
    if made.sql_body is not None:
        return [made.sql_body], []
    (text,) = [option.arg[0].sval for option in made.options if option.defname == "as"]
    return [raw.stmt for raw in parse_sql(text)], []


def found_in(tree: Any, kind: str) -> Iterator[dict[str, Any]]:
    """Every node of that kind in a tree of PL/pgSQL."""
    if isinstance(tree, list):
        for each in tree:
            yield from found_in(each, kind)
    elif isinstance(tree, dict):
        for name, each in tree.items():
            if name == kind:
                yield each
            yield from found_in(each, kind)


def expression_of(node: dict[str, Any]) -> list[Any]:
    """A statement as it is; of an assignment its value; a value as what selects it."""
    text = node["query"]
    if node["parseMode"] == 3:
        text = text.partition(":=")[2]
    return [raw.stmt for raw in parse_sql(text if node["parseMode"] == 0 else f"SELECT {text}")]


def test_every_function_is_of_the_organization_that_it_is_given(catalog: "psycopg.Connection[Any]") -> None:
    """Given the functions as migrations and contracts make them, then the body of each is bound to its parameter
    `organization`, or reads nothing of tenants; those that take one are declared, and each is there.
    """
    functions = functions_of(catalog)
    assert len(functions) > 40
    for function in functions:
        if function.name in OF_ALL | OF_READERS:
            continue
        assert faults_in(function) == [], function.definition
    takers = {(each.schema, each.name): each for each in functions if "organization" in each.arguments}
    assert {name for _, name in takers} == FUNCTIONS.keys()
    assert all(each.arguments.index("organization") == FUNCTIONS[each.name] for each in takers.values())
    others = {(each.schema, each.name) for each in functions} - takers.keys()
    assert {each for each in others if each[1] in FUNCTIONS} == NAMESAKES
    assert {name for _, name in others} >= OF_ALL | OF_READERS


def test_a_body_that_is_not_bound_is_found(catalog: "psycopg.Connection[Any]") -> None:
    """Given each of these functions with another comparison for `=`, then it is not proved any more."""
    mutated = 0
    for function in functions_of(catalog):
        if function.name in FUNCTIONS and "organization_id = " in function.definition:
            loose = function._replace(
                definition=function.definition.replace("organization_id = ", "organization_id <> ")
            )
            assert faults_in(loose), loose.definition
            mutated += 1
    assert mutated >= len(FUNCTIONS)


def test_every_view_yields_rows_with_whose_they_are(catalog: "psycopg.Connection[Any]") -> None:
    """Given views as they are stored, then whoever asks one for one organization is told of no other."""
    catalog.execute("SET search_path = ''")  # names with their schemas
    found = catalog.execute(
        f"""
        SELECT n.nspname, c.relname, pg_get_viewdef(c.oid)
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('v', 'm') AND {OF_SCHEMAS} AND {NOT_OF_EXTENSIONS.format(oid="c.oid")}
        """,
        (list(NOBODYS),),
    ).fetchall()
    of_datasets = {(contract.schema, name) for contract in CONTRACTS for name in ("dataset", "kpi")}
    assert {(schema, name) for schema, name, _ in found} == {*of_datasets, ("public", "person")}
    for schema, name, definition in found:
        (raw,) = parse_sql(definition)
        assert Proof((), view=True).run(raw.stmt) == [], f"{schema}.{name}"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT m.organization_id, (SELECT count(*) FROM pfa.change) AS n FROM pfa.mirror AS m",
        "SELECT m.organization_id, c.id FROM pfa.mirror AS m JOIN pfa.change AS c ON c.row_key = m.row_key",
        "SELECT m.row_key FROM pfa.mirror AS m",
        "SELECT 'acme' AS organization_id FROM pfa.mirror AS m",
        "WITH a AS (SELECT m.organization_id, m.row_key FROM pfa.mirror AS m)"
        " SELECT d.organization_id, a.row_key FROM public.dataset AS d CROSS JOIN a",
    ],
)
def test_a_view_that_mixes_is_found(text: str) -> None:
    (raw,) = parse_sql(text)
    assert Proof((), view=True).run(raw.stmt)


def test_a_temporary_relation_is_one_organizations() -> None:
    """Given what makes it and empties it, then its rows do not outlive a transaction."""
    assert {"staged"} == TEMPORARY
    assert "ON COMMIT DELETE ROWS" in statement("worker/make_staging").text


# -- where it stands ---------------------------------------------------------------------------------------------------


async def test_a_request_of_an_organization_runs_nothing_of_all() -> None:
    item = statement("worker/list_organizations")
    guard(item)
    token = holder.set(Holder("ann", "acme"))
    try:
        with pytest.raises(Unbound, match=r"^worker/list_organizations is of all organizations \(.*\), and this"):
            guard(item)
    finally:
        holder.reset(token)


async def test_no_statement_runs_that_is_not_proved(world: World) -> None:
    """Given a connection of these tests, or of development, when a statement is not bound, then it does not run."""
    leak = read_statement(
        "rows/leak", "-- Rows, of whomever. $1 key.\nDELETE FROM pfa.mirror AS m WHERE m.row_key = $1;\n"
    )
    async with world.runtime.database.connection() as connection:
        with pytest.raises(Unbound):
            await connection.rows(leak, key="A")
        with pytest.raises(Unbound):
            await connection.value(leak, key="A")
        async with connection.transaction():
            with pytest.raises(Unbound):
                async for _ in connection.batches(leak, 10, key="A"):
                    pass


def database_of(environment: str) -> Database:
    return Database(Settings(database_url="postgresql://nobody@localhost/none", secret=SECRET, environment=environment))


def test_development_is_fenced_and_production_pays_nothing() -> None:
    """In production a connection is what it was before: no check, no look at a setting, no parser."""
    raw: Any = None
    assert type(database_of("development").at(raw)) is Fenced
    assert type(database_of("production").at(raw)) is Connection
    script = (
        "import sys; from app.base.database import Connection; import app.main;"
        "assert 'pglast' not in sys.modules; print(Connection._timed.__qualname__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "Connection._timed"


def test_without_the_parser_development_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pglast", None)
    fence.is_up.cache_clear()
    try:
        with structlog.testing.capture_logs() as logged:
            database = database_of("development")
            assert type(database.at(cast(Any, None))) is Connection
            database_of("development")
        assert [(each["event"], each["missing"]) for each in logged] == [("statements are not proved", "pglast")]
    finally:
        fence.is_up.cache_clear()


def test_a_text_is_proved_once() -> None:
    """What was proved is remembered, within a bound; what failed is not."""
    item = statement("rows/read_row").within("once_only")
    before = check.cache_info()
    prove(item)
    prove(item)
    after = check.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 1)
    assert after.maxsize is not None
