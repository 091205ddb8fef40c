"""The benchmarks' runner and its document. How fast anything is, is not asked here: `make bench` tells."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import psycopg
import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.progress import Progress

from app import cli
from app.base.errors import ConfigurationError
from app.cli import program
from app.contracts import PFA
from app.contracts.comparison import Kind
from app.contracts.filters import read_listing
from app.contracts.registration import read_registration
from app.dev.postgres import DevDatabaseError
from app.engine.page import PageComposer
from benchmarks import bench_drift, bench_http, bench_release, client, data, documents, processes, report, suite
from benchmarks.against.checkout import Refused
from benchmarks.against.outcome import part
from benchmarks.bench_drift import FORMS, Form
from benchmarks.bench_http import without_password
from benchmarks.data import Bench
from benchmarks.figures import Figure, LeftOut, at_least, at_most, plain
from benchmarks.own import FLAT
from benchmarks.suite import GROUPS, Group, Options, Outcome
from tests.support.children import VANGUARD, child

FAST = at_most("reading a page", 1.25, 2)
SLOW = at_least("saving many", 0.1, 0.25, missed="It would take another table.")
FREE = plain("pages a second", 1234.5678, "1/s")
ABOUT = report.About(
    date="2026-03-01", processor="A processor", postgresql="18.1", python="3.11", vanguard="0.1.0", rows=1_000_000,
    others=0.42,
)  # fmt: skip
LINUX = sys.platform == "linux"
SPEND = "SELECT count(*) FROM generate_series(1, 1000000)"
SPENDING = "import time\nwhile time.process_time() < 0.3: pass\nprint('spent', flush=True)\ninput()"
POINTS = {"drafts": {"the page": [(0.0, 0.8), (500.0, 0.9), (50_000.0, 12.0)]}, "rows": {"the page": [(1000.0, 0.7)]}}


async def reads(bench: Bench) -> AsyncIterator[Figure]:
    yield FAST
    yield FREE


async def breaks(bench: Bench) -> AsyncIterator[Figure]:
    yield SLOW
    raise LookupError("the table is gone")


async def lacks(bench: Bench) -> AsyncIterator[Figure]:
    yield FREE
    raise LeftOut("There is no commit a086f68 here.")


FAKES = {"reads": Group("Reading", reads, 2), "breaks": Group("Breaking", breaks, 5), "again": Group("Again", reads, 2)}


@pytest.fixture
def outcome() -> Outcome:
    """What the groups above come to."""
    bars = Progress(console=Console(), disable=True)
    return asyncio.run(suite.measure(cast(Bench, None), FAKES, bars))


def test_a_bound_holds_or_not() -> None:
    assert (FAST.bound, FAST.holds) == ("at most 2", True)
    assert (SLOW.bound, SLOW.holds) == ("at least 0.25", False)
    assert (FREE.bound, FREE.holds) == (None, None)


def test_a_group_that_fails_loses_nothing_but_its_rest(outcome: Outcome) -> None:
    assert outcome.figures == {"reads": [FAST, FREE], "breaks": [SLOW], "again": [FAST, FREE]}
    assert outcome.failures == {"breaks": "LookupError: the table is gone"}
    assert outcome.missed == [SLOW]


def test_a_group_that_cannot_be_had_is_left_out_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    groups = {"lacks": Group("Lacking", lacks, 2)}
    outcome = asyncio.run(suite.measure(cast(Bench, None), groups, Progress(console=Console(), disable=True)))
    assert (outcome.figures, outcome.failures) == ({"lacks": [FREE]}, {})
    suite.print_figures(Console(width=160), outcome, groups)
    assert "Left out: There is no commit a086f68 here." in capsys.readouterr().out
    assert "Left out: There is no" in report.document(ABOUT, outcome.figures, outcome.notes, {}, groups)


def test_results_are_a_list_of_figures(outcome: Outcome, tmp_path: Path) -> None:
    suite.write_results(outcome, tmp_path / "new" / "latest.json")
    found = json.loads((tmp_path / "new" / "latest.json").read_text())
    assert [set(each) for each in found] == [{"figure", "value", "unit", "bound", "holds"}] * 5
    assert found[1] == {"figure": "pages a second", "value": 1234.5678, "unit": "1/s", "bound": None, "holds": None}
    assert found[2]["holds"] is False


def test_groups_are_selected_by_name_and_run_in_their_order() -> None:
    assert list(suite.selected((), FAKES)) == list(FAKES)
    assert list(suite.selected(("again", "reads"), FAKES)) == ["reads", "again"]


def test_an_unknown_group_is_refused_with_those_there_are() -> None:
    answer = CliRunner().invoke(cli.main, ["bench", "--only", "pages,speed"])
    assert answer.exit_code == 2
    assert "no figures called speed" in answer.output
    assert all(name in answer.output for name in GROUPS)


def test_without_the_sources_the_command_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = EntryPoint("bench", "no_benchmarks.command:bench", program.COMMANDS)
    monkeypatch.setattr(program, "entry_points", lambda **_: EntryPoints([nowhere]))
    answer = CliRunner().invoke(cli.main, ["bench"])
    assert answer.exit_code == 2
    assert "checkout" in answer.output


@pytest.mark.parametrize("options", [Options(quick=True), Options(only=("pages",)), Options(rows=5000)])
def test_only_the_whole_thing_writes_the_projects_document(options: Options) -> None:
    assert options.document is None
    assert Options().document == suite.DOCUMENT
    assert Options(quick=True, out=Path("mine.md")).document == Path("mine.md")


# --- the exit status


@pytest.mark.parametrize(
    ("options", "outcome", "status"),
    [
        (Options(), Outcome({"reads": [FAST]}), 0),
        (Options(), Outcome({"reads": [SLOW]}), 0),
        (Options(strict=True), Outcome({"reads": [SLOW]}), 1),
        (Options(strict=True), Outcome({"reads": [FAST, FREE]}), 0),
        (Options(strict=True, quick=True), Outcome({"reads": [SLOW]}), 0),
        (Options(quick=True), Outcome({"reads": [FAST]}, {"reads": "broken"}), 1),
    ],
)
def test_the_exit_status(
    options: Options,
    outcome: Outcome,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A missed bound is told in any case, and fails a strict run; a group that fails is a failure always."""

    async def measured(*_: Any) -> tuple[Outcome, report.About]:
        return outcome, ABOUT

    monkeypatch.setattr(suite, "_measure", measured)
    monkeypatch.setattr(suite, "RESULTS", tmp_path / "latest.json")
    monkeypatch.setattr(suite, "DOCUMENT", tmp_path / "benchmarks.md")
    monkeypatch.setattr(suite, "GROUPS", FAKES)
    assert suite.run(options) == status
    told = capsys.readouterr().out
    assert ("1 bounds do not hold: saving many" in told) == bool(outcome.missed)
    assert (tmp_path / "latest.json").exists()
    assert (tmp_path / "benchmarks.md").exists() == (not options.quick)


# --- the document


def test_the_document_has_head_figures_and_failures(outcome: Outcome, tmp_path: Path) -> None:
    file = tmp_path / "benchmarks.md"
    report.write(file, ABOUT, outcome.figures, outcome.notes, POINTS, FAKES)
    text = file.read_text()
    assert "2026-03-01" in text
    assert "A processor; PostgreSQL 18.1, Python 3.11, Vanguard 0.1.0; 1,000,000 lines" in text
    assert "Other work took 42% of the processors" in " ".join(text.split())
    assert "| reading a page | 1.25 x | at most 2 | yes |" in text
    assert "| pages a second | 1,235 1/s |  |  |" in text
    assert "could not be measured: LookupError" in text
    assert "{{" not in text
    assert all((tmp_path / plot.file).exists() and f"({plot.file})" in text for plot in report.PLOTS.values())


def test_a_bound_that_does_not_hold_is_explained(outcome: Outcome) -> None:
    text = report.document(ABOUT, outcome.figures, {}, {}, FAKES)
    assert "| saving many | 0.10 x | at least 0.25 | **no** |" in text
    assert "**saving many**: 0.10 x, wanted at least 0.25. It would take another table." in text
    held = report.document(ABOUT, {"reads": [FAST]}, {}, {}, FAKES)
    assert "Every bound holds in this run." in held
    assert "another table" not in held


def test_the_document_has_no_long_lines_but_those_of_tables() -> None:
    long = at_most("a figure", 3, 2, missed="It would take a server that is faster. " * 9)
    text = report.document(ABOUT, {"reads": [long]}, {"reads": "a table is gone, " * 9}, {}, FAKES)
    assert all(len(line) <= report.LONGEST_LINE for line in text.splitlines() if not line.startswith("|"))
    assert f"wanted at most 2. {long.missed}".strip() in " ".join(text.split())


@pytest.mark.parametrize("name", report.PLOTS)
def test_a_plot_is_an_image(name: str) -> None:
    lines = {**POINTS[name], "a < b & c": [(10.0, 0.5)]}
    image = ElementTree.fromstring(report.svg(report.PLOTS[name], lines))
    assert image.tag.endswith("svg")
    circles = [each for each in image.iter() if each.tag.endswith("circle")]
    assert len(circles) == sum(len(points) for points in lines.values())
    for circle in circles:
        assert report.LEFT <= float(circle.attrib["cx"]) <= report.RIGHT
        assert report.TOP <= float(circle.attrib["cy"]) <= report.BOTTOM


def test_the_projects_document_is_of_this_template() -> None:
    """What is written by hand stands in the template, and so in the document."""
    document = suite.DOCUMENT.read_text(encoding="utf-8")
    parts = report.TEMPLATE.read_text(encoding="utf-8").split("{{")
    for text in (each.partition("}}")[2] if number else each for number, each in enumerate(parts)):
        assert text in document, "render docs/benchmarks.md anew: make bench"


# --- what measures


def test_without_its_commit_the_release_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(revision: str) -> str:
        raise Refused(f"There is no commit {revision} here.")

    async def figures() -> list[Figure]:
        return [figure async for figure in bench_release.release(cast(Bench, None))]

    monkeypatch.setattr(bench_release, "commit_of", missing)
    with pytest.raises(LeftOut, match=bench_release.RELEASE):
        asyncio.run(figures())


@pytest.mark.parametrize(
    ("before", "now", "holds"), [(1.0, 0.6, True), (1.0, 0.7, False), (0.6, 0.41, True), (0.6, 0.5, False)]
)
def test_a_page_has_two_bounds_against_the_release(before: float, now: float, holds: bool) -> None:
    assert bench_release.page_against(part([(before, now)])).holds == holds


def test_without_its_commit_the_pulls_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(revision: str) -> str:
        raise Refused(f"There is no commit {revision} here.")

    async def figures() -> list[Figure]:
        return [figure async for figure in bench_drift.pulls(cast(Bench, None))]

    monkeypatch.setattr(bench_drift, "commit_of", missing)
    with pytest.raises(LeftOut, match=bench_drift.BEFORE):
        asyncio.run(figures())


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
def test_batches_say_what_their_figures_say(form: Form) -> None:
    """Given a batch, it has no drift; and where a field is renamed in it, that is found by what rows have."""
    contract = read_registration(FLAT, schema="own_0")
    body = bench_drift.body_of(form, 100)
    sent = form.members(body)
    assert (len(sent), list(sent[0])) == (100, list(contract.by_name))
    assert not bench_drift.is_drifted(contract, form, sent)
    known = bench_drift.known_of(contract, form, body)
    assert len(known.by_key) == 100
    drift = bench_drift.found_in(contract, form, form.members(bench_drift.renamed(form, body)), known)
    (found,) = drift.changes
    assert (found.change.kind, found.was, found.now) == (Kind.RENAME, bench_drift.WAS, bench_drift.IS)
    assert found.evidence is not None
    assert (found.evidence["pairs"], found.evidence["same"]) == (100, 100)


def test_documents_come_in_parts_that_copy_takes(database_url: str) -> None:
    encoded = list(documents.parts("acme", 1_500))
    assert [part.count(b"\n") for part in encoded] == [1_000, 500]
    with psycopg.connect(database_url) as connection:
        connection.execute(documents.FIRST_REVISION)
        with connection.cursor().copy("COPY pfa.mirror (organization_id, row_key, data) FROM STDIN") as copying:
            for each in encoded:
                copying.write(each)
        keys = connection.execute("SELECT count(*), min(data ->> 'pfaId'), max(row_key) FROM pfa.mirror").fetchone()
        connection.rollback()
    assert keys == (1_500, "PFA-0000001", "PFA-0001500")


def test_what_copy_takes_for_more_than_it_is_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LINES", {PFA.name: lambda *_: iter([("A", r'{"a":"\n\\"}')])})
    assert list(documents.parts("acme", 5)) == [rb'acme	A	{"a":"\\n\\\\"}' + b"\n"]


def test_pgbench_gets_the_same_statement() -> None:
    page = PageComposer(PFA, read_listing(PFA, data.LISTING), "acme", "ann").page(None, counted=False, base_count=False)
    text = bench_http.pgbench_script(page)
    assert "m.organization_id = :v1" in text
    assert ":v4::bigint" in text
    assert "$" not in text
    assert '"modifiedAt": null' in text, "pgbench would take :null for a variable"


def test_the_client_puts_answers_together() -> None:
    """Given a server whose answers come in pieces, the client finds their ends, and knows that 304 has no body."""
    pieces = [
        [b"HTTP/1.1 200 OK\r\nContent-", b"Length: 10\r\n\r\n01234", b"56789"],
        [b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"],
        [b"HTTP/1.1 422 Nope\r\ncontent-length: 0\r\n\r\n"],
    ]
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                for parts in pieces:
                    assert connection.recv(1000) == b"?"
                    for part in parts:
                        connection.sendall(part)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        found = client.take_turns(server.getsockname()[1], [[b"?"], [b"?"], [b"?"]], 1, True)
        thread.join(60)
    assert found["statuses"] == [200, 304, 422]
    assert [len(seconds) for seconds in found["seconds"]] == [1, 1, 1]


@pytest.mark.skipif(not LINUX, reason="this system does not tell what processes took")
def test_a_backend_that_has_ended_is_counted(server_url: str) -> None:
    """Given backends that end while it is looked, then what they took is told all the same."""
    with psycopg.connect(server_url) as watcher:
        postmaster = processes.parent_of_backend(watcher.info.backend_pid)
        assert postmaster is not None
        for _ in range(5):
            before = processes.spent(postmaster)
            with psycopg.connect(server_url) as connection:
                connection.execute(SPEND)
                taken = processes.spent(connection.info.backend_pid)
            assert taken > 0
            assert processes.spent(postmaster) >= before + taken - 2 / processes.TICKS


@pytest.mark.skipif(not LINUX, reason="this system does not tell what processes took")
def test_a_process_that_ends_between_two_looks_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a child that was listed, and whose end is noticed before it is looked at, then its parent has its time."""
    before, family = processes.spent(os.getpid()), processes.family
    with child(sys.executable, "-c", SPENDING, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "spent\n"
        looked = 0

        def ending(pid: int) -> list[int]:
            nonlocal looked
            found, looked = family(pid), looked + 1
            if looked == 1:
                process.communicate(timeout=60)
            return found

        monkeypatch.setattr(processes, "family", ending)
        assert 0.25 <= processes.spent(os.getpid()) - before < 0.55
        assert looked > 2


def test_a_server_gets_its_share_of_memory() -> None:
    assert data.server_settings(8 * 2**30)["shared_buffers"] == "2048MB"
    assert data.server_settings(256 * 2**30)["shared_buffers"] == "4096MB"
    assert not {"fsync", "synchronous_commit", "full_page_writes"} & data.server_settings(2**33).keys()


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("postgresql://a:b@host:1/postgres?sslmode=require", "postgresql://a:b@host:1/new?sslmode=require"),
        ("postgresql://host", "postgresql://host/new"),
        ("postgresql://postgres@/postgres?host=%2Ftmp%2Fx", "postgresql://postgres@/new?host=%2Ftmp%2Fx"),
    ],
)
def test_another_database_of_the_same_server(origin: str, expected: str) -> None:
    assert data.address_of(origin, "new") == expected


def test_a_run_leaves_a_server_as_it_was(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a server of one's own, when pages are measured on it, then there are figures, and no database more."""
    monkeypatch.setattr(suite, "RESULTS", tmp_path / "latest.json")
    before = databases(server_url)
    assert suite.run(Options(only=("pages", "commits", "floor"), quick=True, rows=400, url=server_url)) == 0
    assert databases(server_url) == before
    found = json.loads((tmp_path / "latest.json").read_text())
    assert len(found) == sum(GROUPS[name].figures for name in ("pages", "commits", "floor"))
    assert all(each["value"] > 0 for each in found)


@pytest.mark.slow("the benchmarks of synchronization run to their end, and leave nothing")
def test_pulls_and_pushes_leave_a_server_as_it_was(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a server of one's own, when both are measured on it, then unchanged lines have written nothing."""
    monkeypatch.setattr(suite, "RESULTS", tmp_path / "latest.json")
    before = databases(server_url)
    assert suite.run(Options(only=("sync", "sync-push"), quick=True, rows=400, url=server_url)) == 0
    assert databases(server_url) == before
    found = json.loads((tmp_path / "latest.json").read_text())
    assert len(found) == GROUPS["sync"].figures + GROUPS["sync-push"].figures
    assert [each["value"] for each in found if each["unit"] == "rows"] == [0]
    assert all(each["value"] > 0 for each in found if each["unit"] != "rows")


@pytest.mark.slow("the benchmarks of drift run to their end, and leave nothing")
def test_looking_for_drift_leaves_a_server_as_it_was(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a server of one's own, when both commits pull on it, then there are figures, and nothing more."""
    monkeypatch.setattr(suite, "RESULTS", tmp_path / "latest.json")
    before = databases(server_url)
    assert suite.run(Options(only=("drift",), quick=True, rows=400, url=server_url)) == 0
    assert databases(server_url) == before
    found = json.loads((tmp_path / "latest.json").read_text())
    assert len(found) >= 6
    assert all(each["value"] > 0 for each in found)


@pytest.mark.parametrize("words", [[], ["--load"]], ids=["figures", "load"])
def test_a_run_that_is_told_to_stop_leaves_nothing(server_url: str, words: list[str]) -> None:
    """Given a run that has made a database, when SIGTERM comes, then the database goes, too."""
    before = databases(server_url)
    command = [*VANGUARD, "bench", "--quick", "--url", server_url, *words]
    with child(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (made := databases(server_url) - before) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 1
    assert made
    assert not made & databases(server_url)


def databases(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


def test_without_the_wheel_the_command_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise DevDatabaseError("There is no wheel.")

    monkeypatch.setattr(data, "embedded_bin_dir", missing)
    answer = CliRunner().invoke(cli.main, ["bench", "--quick"])
    assert answer.exit_code == 2
    assert "make venv" in answer.output
    assert "--url" in answer.output


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigurationError, match="cannot be reached"):
        suite.run(Options(quick=True, url="postgresql://nobody@127.0.0.1:1/postgres"))


def test_pgbench_gets_a_password_where_nobody_sees_it() -> None:
    """Arguments stand in every list of processes, an environment does not."""
    address, environment = without_password("postgresql://ann:s3cret@db:5433/plans")
    assert "s3cret" not in address
    assert environment == {"PGPASSWORD": "s3cret"}
    assert without_password("postgresql://ann@db/plans")[1] == {}
