"""`vanguard dev` as people meet it: a process that starts, serves, stops and comes back with everything kept."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import httpx
import psycopg
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from app import dev
from app.cli import main
from app.devdb import DevDatabaseError, embedded_bin_dir
from app.errors import ConfigurationError
from app.migrate import migrate

NOTHING_SAID = {"DATABASE_URL": None, "VANGUARD_DATABASE_URL": None, "VANGUARD_SECRET": None}
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


@contextmanager
def started(port: int, directory: Path) -> Iterator[tuple["subprocess.Popen[str]", httpx.Client, str]]:
    """The command in a process group of its own, once it has said what there is; and the line that it says to paste."""
    command = [sys.executable, "-c", "from app.cli import main; main()", "dev", "--rows", "50"]
    environment = {name: value for name, value in os.environ.items() if name not in NOTHING_SAID}
    environment |= {"VANGUARD_PORT": str(port), "VANGUARD_DATA_DIR": str(directory)}
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client,
        subprocess.Popen(command, env=environment, text=True, stdout=PIPE, start_new_session=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = next((line for line in process.stdout if line.startswith("TOKEN=")), "")
            assert is_ready(client), "it ended before it was ready"
            yield process, client, line
        finally:
            process.terminate()


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def log_in(client: httpx.Client, email: str) -> dict[str, str]:
    answer = client.post("/api/auth/login", json={"email": email, "password": dev.PASSWORD})
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['accessToken']}"}


@pytest.mark.skipif(not has_embedded(), reason="needs the embedded server")
def test_start_stop_and_start_again(short_dir: Path, port: int) -> None:
    directory = short_dir / "data"
    with started(port, directory) as (process, client, line):
        token = log_in(client, "analyst@demo.example")
        rows = client.get(ROWS, headers=token).json()["data"]
        assert len(rows) == 50
        draft = {"id": rows[0]["id"], "delta": {"model": "Kept"}}
        assert client.post(DRAFTS, headers=token, json={"modifications": [draft]}).status_code == 200
        assert (directory / "secret").stat().st_mode & 0o777 == 0o600
        if shutil.which("curl"):
            pasted = subprocess.run(["sh", "-c", line], stdout=PIPE, check=True, text=True)
            assert [row["id"] for row in json.loads(pasted.stdout)["data"]] == ["PFA-0000001", "PFA-0000002"]

        refused = invoke(port, directory)
        assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
        assert f"Port {port} of 127.0.0.1 cannot be used" in refused.output
        refused = invoke(free_port(), directory)
        assert (refused.exit_code, "Another `vanguard dev` runs" in refused.output) == (2, True)

        # Ctrl-C, as a terminal sends it.
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=20)
        assert (process.returncode, said.splitlines()[-1]) == (0, "Stopped. Everything is kept.")
        assert not (directory / "pg" / "postmaster.pid").exists()

    with started(port, directory) as (process, client, line):
        # The token of the first start, too: the secret is kept.
        assert client.get(f"{ROWS}/{rows[0]['id']}", headers=token).json()["data"]["model"] == "Kept"
        assert len(client.get(ROWS, headers=token).json()["data"]) == 50
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == 0
        assert not (directory / "pg" / "postmaster.pid").exists()
        assert not is_ready(client)


def test_a_database_of_somebody_else_is_left_alone(
    short_dir: Path, port: int, create_database: Callable[..., str]
) -> None:
    url = create_database()
    refused = invoke(port, short_dir, DATABASE_URL=url)
    assert (refused.exit_code, "Say --demo" in refused.output) == (2, True)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def install(url: str, port: int, directory: Path, *, demo: bool) -> None:
    """Everything but the serving."""
    options = dev.Options(port=port, data_dir=directory, rows=30, demo=demo)
    with ExitStack() as stack:
        dev._install(options, {"DATABASE_URL": url}, Console(quiet=True), stack)


def test_the_demonstration_is_made_once(short_dir: Path, port: int, create_database: Callable[..., str]) -> None:
    url = create_database()
    install(url, port, short_dir, demo=True)
    with psycopg.connect(url, autocommit=True) as connection:

        def ask(question: str) -> Any:
            row = connection.execute(question.encode()).fetchone()
            return row and row[0]

        assert ask("SELECT count(*) FROM pfa.mirror WHERE organization_id = 'demo'") == 30
        assert ask("SELECT count(*) FROM pfa.mirror WHERE organization_id = 'other'") == dev.OTHER_ROWS
        assert ask("SELECT count(*) FROM membership") == len(dev.PEOPLE)
        assert ask("SELECT email FROM account WHERE operator") == "admin@demo.example"
        # What somebody takes away stays away, once all has been there.
        connection.execute("DELETE FROM account WHERE email = 'viewer@demo.example'")
        connection.execute("DELETE FROM pfa.mirror WHERE organization_id = 'other'")
        install(url, port, short_dir, demo=False)
        assert ask("SELECT count(*) FROM account") == len(dev.PEOPLE) - 1
        assert ask("SELECT count(*) FROM pfa.mirror") == 30
        # After an interruption the rest is made.
        connection.execute("DELETE FROM account WHERE email = 'admin@demo.example'")
        install(url, port, short_dir, demo=True)
        assert ask("SELECT count(*) FROM account") == len(dev.PEOPLE)
        assert ask("SELECT count(*) FROM pfa.mirror") == 230
        assert ask("SELECT max(revision) FROM dataset") == 2


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
    with pytest.raises(KeyboardInterrupt), dev._interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
