"""The development server: it starts on anything it may find, and never loses or mixes up data."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psycopg
import pytest

from app.dev.postgres import DevDatabaseError, Server, embedded_bin_dir
from tests.conftest import FAST
from tests.support.children import child


@pytest.fixture
def server(short_dir: Path, bin_dir: Path | None) -> Server:
    return Server(short_dir / "pg", bin_dir=bin_dir, settings=FAST)


def ask(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
        return row and row[0]


def pid_of(server: Server) -> int:
    return int((server.data_dir / "postmaster.pid").read_text().splitlines()[0])


def test_keeps_data_over_a_restart(server: Server) -> None:
    with server:
        server.create_database()
        server.create_database()
        with psycopg.connect(server.url()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    assert not (server.data_dir / "postmaster.pid").exists()
    with server:
        assert ask(server.url(), "SELECT answer FROM kept") == 42


async def test_serves_asyncpg_with_its_settings(server: Server) -> None:
    with server:
        connection = await asyncpg.connect(server.url("postgres"))
        try:
            assert await connection.fetchval("SHOW fsync") == "off"
            assert await connection.fetchval("SHOW timezone") == "UTC"
            assert await connection.fetchval("SHOW server_encoding") == "UTF8"
            assert await connection.fetchval("SHOW listen_addresses") == ""
        finally:
            await connection.close()


def test_is_reached_by_its_owner_only(server: Server) -> None:
    with server:
        assert server.data_dir.stat().st_mode & 0o077 == 0
        assert (server.data_dir / ".s.PGSQL.5432").is_socket()


def test_deep_and_odd_directories(short_dir: Path, bin_dir: Path | None) -> None:
    with Server(short_dir / ("deep" * 20) / "with space, and 'quotes'", bin_dir=bin_dir, settings=FAST) as server:
        assert ask(server.url("postgres"), "SELECT 1") == 1
        socket_dir = Path((server.data_dir / "postmaster.pid").read_text().splitlines()[4])
        assert socket_dir.stat().st_mode & 0o077 == 0
        # Another process finds the address where the server wrote it down.
        again = Server(server.data_dir, bin_dir=bin_dir)
        again.start()
        assert again.url() == server.url()
    assert not socket_dir.exists()


def test_is_taken_over_after_its_starter_was_killed(server: Server, bin_dir: Path | None) -> None:
    program = (
        "import sys, time; from pathlib import Path; from app.dev.postgres import Server; "
        "Server(Path(sys.argv[1]), bin_dir=Path(sys.argv[2])).start(); print('up', flush=True); time.sleep(600)"
    )
    arguments = [str(server.data_dir), str(bin_dir or embedded_bin_dir())]
    with child(sys.executable, "-c", program, *arguments, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "up\n"
        starter.kill()
    pid = pid_of(server)
    assert os.getsid(pid) != os.getsid(0)  # Ctrl-C goes to the terminal's session
    with server:
        assert pid_of(server) == pid
        assert ask(server.url("postgres"), "SELECT 1") == 1
    with pytest.raises(DevDatabaseError, match="not running"):
        server.url()


def test_recovers_after_a_crash(server: Server) -> None:
    server.start()
    pid = pid_of(server)
    os.kill(pid, signal.SIGKILL)
    with server:
        assert pid_of(server) != pid


def test_process_number_of_a_stranger_is_no_obstacle(server: Server) -> None:
    with server:
        pass
    file = server.data_dir / "postmaster.pid"
    file.write_text(f"{os.getpid()}\n{server.data_dir}\n0\n5432\n{server.data_dir}\n\n")
    server.stop()  # ends nothing that is not its own
    with server:
        assert pid_of(server) != os.getpid()


def test_refuses_what_it_did_not_make(server: Server) -> None:
    with server:
        pass
    (server.data_dir / "PG_VERSION").write_text("9\n")
    with pytest.raises(DevDatabaseError, match="made by PostgreSQL 9, and this is PostgreSQL 1"):
        server.start()
    (server.data_dir / "PG_VERSION").unlink()
    with pytest.raises(DevDatabaseError, match="something else than a database"):
        server.start()


def test_says_why_it_does_not_start(short_dir: Path, bin_dir: Path | None) -> None:
    with pytest.raises(DevDatabaseError, match="unrecognized configuration parameter"):
        Server(short_dir / "pg", bin_dir=bin_dir, settings={**FAST, "no_such_setting": "on"}).start()
    with pytest.raises(DevDatabaseError, match="no PostgreSQL server in"):
        Server(short_dir / "other", bin_dir=short_dir).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as somebody else")
def test_root_runs_it_as_somebody_else_in_a_closed_directory(server: Server, short_dir: Path) -> None:
    assert short_dir.stat().st_mode & 0o777 == 0o700
    with server:
        assert Path(f"/proc/{pid_of(server)}").stat().st_uid == server.data_dir.stat().st_uid != 0
    assert short_dir.stat().st_mode & 0o777 == 0o701


def test_databases_are_copied_and_dropped(server_url: str, create_database: Callable[..., str]) -> None:
    template = create_database()
    with psycopg.connect(template) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    copy = create_database(template)
    assert copy != template
    assert ask(copy, "SELECT answer FROM kept") == 42
    assert ask(server_url, "SELECT count(*) FROM pg_database WHERE datname LIKE 'vanguard_test_%'") != 0
