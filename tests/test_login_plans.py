"""The statements of a login with a million attempts and a million addresses: by an index each, a few rows."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from app.base.statements import Statement
from app.login import attempts
from tests.conftest import new_database
from tests.test_plans import PLANNED, nodes_of, touched

MANY = 1_000_000
AT = datetime(2026, 3, 1, tzinfo=UTC)
FREE = "{5,20,100,5}"

# Half of the attempts are too old to count, as after a flood that nobody has come behind; so are half of the addresses.
FILL = f"""
INSERT INTO account (id, email, name)
SELECT i::text, i || '@x.example', 'x' FROM generate_series(1, {MANY // 20}) AS i;
INSERT INTO login_attempt (digest, kind, failures, last_at, open_at)
SELECT sha256(i::text::bytea), i % 4 + 1, i % 100, t, t
  FROM generate_series(1, {MANY}) AS i
 CROSS JOIN LATERAL (SELECT timestamptz '2026-03-01Z' - make_interval(secs => i % 7200) AS t) AS t;
INSERT INTO login_address (address, pair, account_id, seen_at)
SELECT sha256((i % 1000)::text::bytea), sha256(i::text::bytea), (i % {MANY // 20} + 1)::text,
       timestamptz '2026-03-01Z' - make_interval(hours => i % 4320)
  FROM generate_series(1, {MANY}) AS i;
"""

pytestmark = pytest.mark.slow("plans over a million attempts, which take long to make: over a few, all plans are good")


@pytest.fixture(scope="module")
def filled(server_url: str, template: str) -> Iterator[str]:
    with new_database(server_url, template) as url:
        yield url


@pytest.fixture(scope="module")
async def analyzed(filled: str) -> str:
    connection = await asyncpg.connect(filled)
    await connection.execute(FILL)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    return filled


@pytest.fixture
async def planner(analyzed: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    connection = await asyncpg.connect(analyzed)
    await connection.execute(PLANNED)
    yield connection
    await connection.close()


def digest(number: int) -> str:
    """As SQL has bytes; what FILL made of the number, or of none of its."""
    return "\\x" + hashlib.sha256(str(number).encode()).hexdigest()


def digests(*numbers: int) -> str:
    """The same, several."""
    return "{" + ",".join('"' + digest(each).replace("\\", "\\\\") + '"' for each in numbers) + "}"


KNOWN, UNKNOWN = digests(1, 2, 3), digests(-1, -2, -3)
LIMITS: dict[str, Any] = {"free": FREE, "longest": "{900,300,900,900}", "windows": "{900,3600,900,900}", "first": 10}
SINCE = AT - timedelta(days=90)
STATEMENTS: dict[str, tuple[Statement, dict[str, Any], int]] = {
    "read": (
        attempts.READ_ATTEMPTS,
        {"digests": KNOWN, "address": digest(1), "pair": digest(1), "at": AT, "since": SINCE},
        10,
    ),
    # At an address where a thousand are at home: the first that is found will do.
    "read unknown": (
        attempts.READ_ATTEMPTS,
        {"digests": UNKNOWN, "address": digest(999), "pair": digest(-1), "at": AT, "since": SINCE},
        10,
    ),
    "count": (attempts.COUNT_ATTEMPTS, {"digests": KNOWN, "kinds": "{1,2,3}", "at": AT, **LIMITS}, 10),
    "count unknown": (attempts.COUNT_ATTEMPTS, {"digests": UNKNOWN, "kinds": "{1,2,3}", "at": AT, **LIMITS}, 10),
    "settle": (attempts.SETTLE_ATTEMPTS, {"digests": KNOWN, "free": FREE}, 10),
    "remember": (
        attempts.REMEMBER_ADDRESS,
        {"account": "7", "address": digest(1), "pair": digest(-1), "at": AT, "most": 20},
        60,
    ),
    "forget": (attempts.FORGET_ATTEMPTS, {"before": AT - timedelta(hours=1), "since": SINCE, "limit": 20}, 60),
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_login_reads_a_few_of_a_million(planner: "asyncpg.Connection[Any]", name: str) -> None:
    item, given, most = STATEMENTS[name]
    nodes = await nodes_of(planner, item.text, item.bind(given))
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan"]
    read = max(touched(node) for node in nodes)
    buffers = nodes[0]["Shared Hit Blocks"] + nodes[0]["Shared Read Blocks"]
    print(f"{name}: {read} rows, {buffers} buffers, {nodes[0]['Actual Total Time']} ms")
    assert read <= most
    assert buffers < 1000
