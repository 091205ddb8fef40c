"""benchmarks/load.py in short: everything is asked, nothing goes wrong, and what is told adds up."""

import asyncio
import io
import json
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from rich.console import Console

from app.cli import main
from benchmarks.load import KPIS, READS, WRITES, Book, Load, Reader, outcome_of, own_load, report, run_load


@pytest.fixture(scope="module")
def load(server_url: str) -> Load:
    """Two seconds of four readers and three writers on 2,000 lines; more of them where that is too little for all."""
    for seconds in (2, 10, 40):
        load = asyncio.run(own_load(server_url, rows=2_000, seconds=seconds, readers=4, writers=3))
        if READS.keys() | WRITES.keys() <= {endpoint.name for endpoint in load.endpoints if endpoint.requests > 2}:
            break
    return load


def test_every_endpoint_is_asked_and_nothing_goes_wrong(load: Load) -> None:
    found = {endpoint.name: endpoint for endpoint in load.endpoints}
    assert found.keys() - KPIS == READS.keys() | WRITES.keys()
    for endpoint in load.endpoints:
        assert endpoint.errors == {}
        assert 0 < endpoint.requests == sum(endpoint.outcomes.values())
        assert 0 < endpoint.p50 <= endpoint.p95 <= endpoint.p99
        assert endpoint.outcomes.keys() <= {"200", "304", "409 MERGE_CONFLICT"}
    assert found["If-None-Match"].outcomes.get("304", 0) > 0
    assert found["commit 5"].outcomes["200"] > 0


def test_the_whole_is_the_sum_of_its_parts(load: Load) -> None:
    assert load.errors == 0
    assert load.requests == sum(endpoint.requests for endpoint in load.endpoints)
    assert load.seconds >= 2
    assert load.client_processor > 0
    assert load.api_processor is None or load.api_processor > 0


def test_the_report_names_every_endpoint_and_the_clients_share(load: Load) -> None:
    text = io.StringIO()
    report(load, Console(file=text, width=200))
    assert all(endpoint.name in text.getvalue() for endpoint in load.endpoints)
    assert f"{load.client_processor:.2f} of a processor" in text.getvalue()


def test_percentiles_are_right_within_one_in_a_hundred() -> None:
    book = Book()
    for milliseconds in range(1, 1001):
        book.note(milliseconds / 1000, "200", error=False)
    for share, expected in ((0.5, 500), (0.95, 950), (0.99, 990)):
        assert book.percentile(share) == pytest.approx(expected, rel=0.011)


@pytest.mark.parametrize(
    ("method", "status", "body", "outcome"),
    [
        ("GET", 200, b'{"data":[]}', "200"),
        ("GET", 304, b"", "304"),
        ("POST", 200, b'{"saved":[],"errors":[]}', "200"),
        ("POST", 200, b'{"saved":[],"errors":[{"code":"ROW_DELETED"}]}', "200 ROW_DELETED"),
        ("POST", 409, b'{"code":"MERGE_CONFLICT"}', "409 MERGE_CONFLICT"),
        ("GET", 502, b"Bad Gateway", "502"),
    ],
)
def test_an_answer_counts_by_its_status_and_code(method: str, status: int, body: bytes, outcome: str) -> None:
    answer = httpx.Response(status, content=body, request=httpx.Request(method, "http://vanguard.test"))
    assert outcome_of(answer) == outcome


async def test_a_server_that_is_gone_is_told_at_once() -> None:
    with pytest.raises(httpx.TransportError):
        await run_load("http://127.0.0.1:1", "load", ["token"], seconds=1, readers=1, writers=1)


async def test_an_answer_that_was_not_expected_is_an_error() -> None:
    """Given a service that refuses everything, when one client asks, then its book has the code among the errors."""
    refusal = httpx.Response(503, json={"code": "DATABASE_UNAVAILABLE"})
    async with httpx.AsyncClient(
        transport=httpx.MockTransport(lambda request: refusal), base_url="http://vanguard.test", timeout=60
    ) as http:
        book = Book()
        client = Reader(http, "/D", "token", 1, {"one row": book}, categories=[], keys=["A"], kpis=False)
        assert await client.ask("one row", "GET", "rows/A") is None
    assert (book.outcomes, book.errors) == ({}, {"503 DATABASE_UNAVAILABLE": 1})


def test_the_command_tells_a_person_and_a_machine(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.load.RESULT", tmp_path / "latest-load.json")
    size = ["--rows", "500", "--seconds", "0.5", "--readers", "1", "--writers", "1"]
    done = CliRunner().invoke(main, ["bench", "--load", "--url", server_url, *size])
    assert done.exit_code == 0, done.output
    assert "1 readers, 1 writers" in done.output
    assert json.loads((tmp_path / "latest-load.json").read_text())["readers"] == 1


def test_the_load_has_no_figures_to_choose_from() -> None:
    done = CliRunner().invoke(main, ["bench", "--load", "--only", "pages"])
    assert (done.exit_code, "--only" in done.output) == (2, True)
