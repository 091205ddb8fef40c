"""From a query string to the statement of its page: what Python does before PostgreSQL is asked."""

import asyncio
from datetime import UTC, datetime

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from app.base.database import Database
from app.base.places import Places
from app.base.settings import Settings
from app.base.turns import Turns
from app.contracts import PFA
from app.contracts.filters import read_listing, read_parameters
from app.engine.cursors import Cursor, read_cursor, write_cursor
from app.engine.datasets import Datasets
from app.engine.page import READ_PAGE, PageComposer
from app.engine.tailer import Tailer
from app.login import attempts
from app.main import shares_of_exports, shares_of_queries, shares_of_uploads
from app.web.auth import Auth
from app.web.budgets import Bodies
from app.web.etags import etag_of
from app.web.runtime import Runtime
from tests.support.world import SECRET

PLAIN = b"sort=forecastStart"
FILTERED = (
    b"category=Cranes&source=Rental&monthlyRate%5Bgte%5D=1000.50&forecastStart%5Blt%5D=2027-01-01"
    b"&class%5Bin%5D=Crawler%20Crane%2CTower%20Crane&equipment%5Bcontains%5D=CR-&sort=-forecastStart%2CmonthlyRate"
)
QUERY_STRINGS = pytest.mark.parametrize("query_string", [PLAIN, FILTERED], ids=["plain", "six_filters"])
POSITION = Cursor(("2026-03-01",), "PFA-0002500")
PURPOSE = "acme/pfa?forecastStart,id"


def now() -> datetime:
    """A day that stands still."""
    return datetime(2026, 3, 1, tzinfo=UTC)


def composed(query_string: bytes, cursor: Cursor | None = None) -> str:
    """The statement of the listing's page."""
    listing = read_listing(PFA, read_parameters(query_string))
    page = PageComposer(PFA, listing, "acme", "ann").page(cursor, counted=True, base_count=False)
    return page.statement.text


@QUERY_STRINGS
def test_a_listing_is_read_from_its_query_string(benchmark: BenchmarkFixture, query_string: bytes) -> None:
    listing = benchmark(lambda: read_listing(PFA, read_parameters(query_string)))
    assert listing.sort[0].field == "forecastStart"


@QUERY_STRINGS
def test_the_first_page_is_composed(benchmark: BenchmarkFixture, query_string: bytes) -> None:
    listing = read_listing(PFA, read_parameters(query_string))
    page = benchmark(lambda: PageComposer(PFA, listing, "acme", "ann").page(None, counted=True, base_count=False))
    assert page.statement.text == composed(query_string)


def test_a_page_deep_in_the_list_is_composed_from_its_cursor(benchmark: BenchmarkFixture) -> None:
    listing = read_listing(PFA, read_parameters(PLAIN))
    page = benchmark(lambda: PageComposer(PFA, listing, "acme", "ann").page(POSITION, counted=True, base_count=False))
    assert page.statement.text == composed(PLAIN, POSITION)


def test_the_statements_markers_are_filled(benchmark: BenchmarkFixture) -> None:
    parts = dict.fromkeys(READ_PAGE.markers, "TRUE")
    filled = benchmark(lambda: READ_PAGE.fill(**parts))
    assert not filled.markers


def test_a_cursor_is_signed(benchmark: BenchmarkFixture) -> None:
    text = benchmark(write_cursor, SECRET, now, PURPOSE, POSITION)
    assert read_cursor(SECRET, now, PURPOSE, text) == POSITION


def test_a_cursor_is_read(benchmark: BenchmarkFixture) -> None:
    text = write_cursor(SECRET, now, PURPOSE, POSITION)
    assert benchmark(read_cursor, SECRET, now, PURPOSE, text) == POSITION


def test_a_pages_etag_is_made(benchmark: BenchmarkFixture, settings: Settings) -> None:
    database = Database(settings)
    auth = Auth(settings, database, now)
    runtime = Runtime(
        migration="",
        settings=settings,
        database=database,
        reserve=database,
        auth=auth,
        owner=database,
        datasets=Datasets(database, [PFA]),
        clock=now,
        exports=Places(shares_of_exports(settings)),
        uploads=Places(shares_of_uploads(settings)),
        queries=Places(shares_of_queries(settings)),
        bodies=Bodies(settings),
        hashing=Turns(1, 1, queued=attempts.QUEUED, waited=attempts.WAITED),
        logins=asyncio.Semaphore(1),
        tailer=Tailer(database, now, auth.may_go_on),
    )
    revisions = {"revision": 7, "workspace_revision": 12}
    assert benchmark(etag_of, runtime, PFA, "acme", "ann", revisions).startswith('W/"7.12.')
