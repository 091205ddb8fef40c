"""`vanguard dev` as people meet it: a process that starts, serves, stops and comes back with everything kept."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any

import httpx
import psycopg
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from app.base.errors import ConfigurationError
from app.cli import main
from app.dev import pems, run, seed
from app.dev.postgres import DevDatabaseError, Server, embedded_bin_dir
from app.migrate import migrate
from tests.support.children import VANGUARD, child
from tests.support.listeners import listening_at

NOTHING_SAID = dict.fromkeys(("DATABASE_URL", "VANGUARD_DATABASE_URL", "VANGUARD_SECRET", "VANGUARD_UPSTREAMS"))
DATASET = "/api/v1/orgs/demo/datasets/pfa"
ROWS = "/api/v1/orgs/demo/datasets/pfa/rows"
DRAFTS = "/api/v1/orgs/demo/datasets/pfa/drafts"


def has_embedded() -> bool:
    try:
        return embedded_bin_dir().is_dir()
    except DevDatabaseError:
        return False


@pytest.fixture
def port() -> int:
    return free_port()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def invoke(port: int, directory: Path, *more: str, **environment: str) -> Result:
    arguments = ["dev", "--port", str(port), "--data-dir", str(directory), *more]
    return CliRunner(env={**NOTHING_SAID, **environment}).invoke(main, arguments)


Said = tuple["subprocess.Popen[str]", httpx.Client, list[str]]


@contextmanager
def started(port: int, directory: Path, *more: str, **given: str) -> Iterator[Said]:
    """The command in a process group of its own, once it has said all; and the lines that are to be pasted."""
    command = [*VANGUARD, "dev", "--rows", "50", *more]
    environment = {name: value for name, value in os.environ.items() if name not in NOTHING_SAID}
    environment |= {"VANGUARD_PORT": str(port), "VANGUARD_DATA_DIR": str(directory), **given}
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
        child(*command, env=environment, stdout=PIPE, start_new_session=True) as process,
    ):
        yield process, client, pasteable(process)


def pasteable(process: "subprocess.Popen[str]") -> list[str]:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("Ctrl-C"):
            return [line for line in said if line.startswith(("TOKEN=", "curl"))]
    raise AssertionError(f"it ended before it was ready: {''.join(said)}")


def paste(*lines: str) -> str:
    return subprocess.run(["sh", "-c", "".join(lines)], stdout=PIPE, check=True, text=True, timeout=60).stdout


def simulated(directory: Path) -> str:
    """The address of the simulator that upstreams.json leads to."""
    entries = json.loads((directory / "upstreams.json").read_text())["upstreams"]
    assert {entry["organization"]: entry["organizations"] for entry in entries} == {
        "demo": ["DEMO"],
        "other": ["OTHER"],
    }
    return str(entries[0]["url"])


def eventually(happened: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.05)
    return happened()


def pid_of(process: "subprocess.Popen[str]", command: str) -> int:
    """The child that runs a command of ours."""
    done = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(process.pid)],
        stdout=PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    found = [line.split() for line in done.stdout.splitlines() if f"main() {command}" in line]
    assert len(found) == 1, done.stdout
    return int(found[0][0])


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def log_in(client: httpx.Client, email: str) -> dict[str, str]:
    answer = client.post("/api/auth/login", json={"email": email, "password": run.PASSWORD})
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['accessToken']}"}


@pytest.mark.slow("the command as people meet it: made, stopped, found again as it was")
@pytest.mark.skipif(not has_embedded(), reason="needs the embedded server")
def test_start_stop_and_start_again(short_dir: Path, port: int) -> None:
    directory = short_dir / "data"
    with started(port, directory) as (process, client, lines):
        token = log_in(client, "analyst@demo.example")
        rows = client.get(ROWS, headers=token).json()["data"]
        assert len(rows) == 50
        assert {row["data"]["organization"] for row in rows} == {"DEMO"}
        other = client.get(ROWS.replace("demo", "other"), headers=log_in(client, "analyst@other.example")).json()
        assert other["pagination"]["totalRecords"] == 200
        # Own datasets can be tried at once; an installation that `vanguard migrate` makes waits for an operator.
        operator = log_in(client, "admin@demo.example")
        assert client.get("/api/v1/system/mode", headers=operator).json()["mode"] == "INGESTION_READY"
        assert client.put("/api/v1/system/mode", headers=operator, json={"mode": "READ_ONLY"}).status_code == 200
        kept = {"id": rows[9]["id"], "delta": {"model": "Kept"}}
        assert client.post(DRAFTS, headers=token, json={"modifications": [kept]}).status_code == 200
        for secret in (directory / "secret", directory / "pems" / "password"):
            assert secret.stat().st_mode & 0o777 == 0o600
            running = subprocess.run(["ps", "-ww", "-e", "-o", "args"], stdout=PIPE, text=True, timeout=60)
            assert secret.read_text() not in running.stdout

        # Passwords that everybody knows are for this machine: of all that it started nothing listens beyond.
        database = int((directory / "pg" / "postmaster.pid").read_text().split()[0])
        places = listening_at(process.pid, database)
        assert {host for host, _ in places} == {"127.0.0.1"}
        assert {p for _, p in places} == {port, int(simulated(directory).rpartition(":")[2])}

        refused = invoke(port, directory)
        assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
        assert f"Port {port} of 127.0.0.1 cannot be used" in refused.output
        refused = invoke(free_port(), directory)
        assert (refused.exit_code, "Another `vanguard dev` runs" in refused.output) == (2, True)

        # A commit reaches the simulated PEMS, and comes back.
        commit(client, token, rows[0]["id"], {"model": "Pushed"})
        row = f"{ROWS}/{rows[0]['id']}"
        assert eventually(lambda: client.get(row, headers=token).json()["syncState"] == "pristine")
        record = f"{simulated(directory)}/sim/records?org=DEMO&id={rows[0]['id']}"
        assert httpx.get(record, trust_env=False, timeout=60).json()["document"]["model"] == "Pushed"

        # Ctrl-C, as a terminal sends it.
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)
        assert (process.returncode, said.splitlines()[-1]) == (0, "Stopped. Everything is kept.")
        assert not (directory / "pg" / "postmaster.pid").exists()

    with started(port, directory, "--rows", "60") as (process, client, lines):
        # The token of the first start, too: the secret is kept. So are drafts, and what PEMS was told.
        assert client.get(f"{ROWS}/{rows[9]['id']}", headers=token).json()["data"]["model"] == "Kept"
        assert client.get("/api/v1/system/mode", headers=operator).json()["mode"] == "READ_ONLY"
        assert len(client.get(ROWS, headers=token).json()["data"]) == 50
        record = f"{simulated(directory)}/sim/records?org=DEMO&id={rows[0]['id']}"
        assert httpx.get(record, trust_env=False, timeout=60).json()["document"]["model"] == "Pushed"
        if shutil.which("curl"):
            assert paste(lines[0]).count('"id"') == 2
            # The record that is shown in the end may still be as it was, on a machine that is busy.
            assert '"committed":1' in paste(*lines)
            assert eventually(lambda: '"model":"Mine"' in httpx.get(record, trust_env=False, timeout=60).text)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert not (directory / "pg" / "postmaster.pid").exists()
        assert not is_ready(client)


def commit(client: httpx.Client, token: dict[str, str], key: str, delta: dict[str, Any]) -> None:
    assert client.post(DRAFTS, headers=token, json={"modifications": [{"id": key, "delta": delta}]}).status_code == 200
    assert client.post(f"{DATASET}/commit", headers=token, json={"ids": [key]}).json()["committed"] == 1


@pytest.mark.slow("no process outlives another one, twice")
@pytest.mark.skipif(not has_embedded(), reason="needs the embedded server")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's end")
def test_whoever_is_killed(short_dir: Path, port: int) -> None:
    """Given a start, when the worker is killed, then all end; when the command itself is, its children end."""
    directory = short_dir / "data"
    with started(port, directory) as (process, client, _):
        os.kill(pid_of(process, "worker"), signal.SIGKILL)
        said, _ = process.communicate(timeout=60)
        assert (process.returncode, said.splitlines()[-1]) == (1, "The worker stopped by itself (status -9).")
        assert not (directory / "pg" / "postmaster.pid").exists()
        assert not is_ready(client)

    with started(port, directory) as (process, client, _):
        address = simulated(directory)
        process.kill()
        assert eventually(lambda: not is_ready(client))
        assert eventually(lambda: not answers(address))
        # The database outlives it, and is taken over by the next start.
        Server(directory / "pg").stop()


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/sim/log", trust_env=False, timeout=60).status_code == 200
    except httpx.TransportError:
        return False


def test_what_an_earlier_version_seeded_is_found_in_pems(
    short_dir: Path, port: int, create_database: Callable[..., str]
) -> None:
    url = create_database()
    install(url, port, short_dir, demo=True)
    asyncio.run(seed.seed(url, "demo", 30))
    asyncio.run(seed.seed(url, "other", pems.OTHER_ROWS, number=2))
    with started(port, short_dir, DATABASE_URL=url), psycopg.connect(url) as connection:
        counts = "SELECT rows_read, unchanged FROM sync_run ORDER BY organization_id"
        assert connection.execute(counts).fetchall() == [(30, 30), (200, 200)]


def test_a_first_pull_that_fails_says_why(short_dir: Path, port: int, create_database: Callable[..., str]) -> None:
    """Given a PEMS that was made with fewer lines than the database has, then no line is lost, and it is told."""
    url = create_database()
    install(url, port, short_dir, demo=True)
    asyncio.run(seed.seed(url, "demo", 30))
    (short_dir / "pems").mkdir()
    (short_dir / "pems" / "rows").write_text("5")
    reason = "The first pull of demo failed: 25 of 30 rows are gone upstream"
    with pytest.raises(AssertionError, match=reason), started(port, short_dir, DATABASE_URL=url):
        pass


def test_a_file_of_upstreams_takes_the_place_of_the_simulator(
    short_dir: Path, port: int, create_database: Callable[..., str]
) -> None:
    (short_dir / "mine.json").write_text('{"upstreams": []}')
    given = {"DATABASE_URL": create_database(), "VANGUARD_UPSTREAMS": os.path.relpath(short_dir / "mine.json")}
    with started(port, short_dir / "data", "--demo", **given) as (process, client, lines):
        assert len(lines) == 1
        assert not (short_dir / "data" / "upstreams.json").exists()
        assert client.get(ROWS, headers=log_in(client, "analyst@demo.example")).json()["data"] == []
        assert pid_of(process, "worker")


def test_a_database_of_somebody_else_is_left_alone(
    short_dir: Path, port: int, create_database: Callable[..., str]
) -> None:
    url = create_database()
    refused = invoke(port, short_dir, DATABASE_URL=url)
    assert (refused.exit_code, "Say --demo" in refused.output) == (2, True)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def install(url: str, port: int, directory: Path, *, demo: bool) -> None:
    """Database, schema, organizations and accounts."""
    options = run.Options(port=port, data_dir=directory, rows=30, demo=demo)
    with ExitStack() as stack:
        settings, _ = run._install(options, {"DATABASE_URL": url}, Console(quiet=True), stack)
        asyncio.run(run._demonstrate(settings))


def test_the_demonstration_is_made_once(short_dir: Path, port: int, create_database: Callable[..., str]) -> None:
    url = create_database()
    install(url, port, short_dir, demo=True)
    with psycopg.connect(url, autocommit=True) as connection:

        def ask(question: str) -> Any:
            row = connection.execute(question.encode()).fetchone()
            return row and row[0]

        assert ask("SELECT count(*) FROM membership") == len(run.PEOPLE)
        assert ask("SELECT email FROM account WHERE operator") == "admin@demo.example"
        # What somebody takes away stays away, once all has been there.
        connection.execute("DELETE FROM account WHERE email = 'viewer@demo.example'")
        install(url, port, short_dir, demo=False)
        assert ask("SELECT count(*) FROM account") == len(run.PEOPLE) - 1
        # After an interruption the rest is made.
        connection.execute("DELETE FROM account WHERE email = 'admin@demo.example'")
        install(url, port, short_dir, demo=True)
        assert ask("SELECT count(*) FROM account") == len(run.PEOPLE)


def test_how_many_lines_there_are_is_decided_once(short_dir: Path) -> None:
    given = [pems.prepare(short_dir, 65535, partial(int, rows)) for rows in (30, 40)]
    for each in given:
        assert "DEMO=30:1" in each.arguments
        assert set(each.environment.values()).isdisjoint(each.arguments)
    assert given[0].environment == given[1].environment


def test_an_organization_of_somebody_else_is_left_alone(
    short_dir: Path, port: int, create_database: Callable[..., str]
) -> None:
    url = create_database()
    migrate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO organization (id, name) VALUES ('other', 'Other Ltd.')")
        with pytest.raises(ConfigurationError, match="organization other that is not the demonstration's"):
            install(url, port, short_dir, demo=True)
        assert connection.execute("SELECT count(*) FROM organization").fetchone() == (1,)


def test_unusable_directories(short_dir: Path, port: int) -> None:
    (short_dir / "file").write_text("")
    refused = invoke(port, short_dir / "file" / "data")
    assert (refused.exit_code, "cannot be used: Not a directory" in refused.output) == (2, True)
    (short_dir / "data" / "pg").mkdir(parents=True)
    (short_dir / "data" / "pg" / "letter").write_text("")
    refused = invoke(port, short_dir / "data")
    assert refused.exit_code == 2


def test_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), run._interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_was_ignored_from_the_start_stays_so(number: signal.Signals) -> None:
    """SIGHUP behind `nohup`, SIGINT behind a script's `&`."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with run._interruptible():
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN
        with pytest.raises(KeyboardInterrupt), run._interruptible():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(number, before)
