"""The command line: organizations, accounts, tokens, migrations, the server."""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import jwt
import psycopg
import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.passwords import matches
from tests.conftest import new_database
from tests.support.children import VANGUARD, child
from tests.support.world import SECRET

PASSWORD = "a quite ordinary phrase"


class Shell:
    """Runs `vanguard` with the settings of the test's database."""

    def __init__(self, database_url: str):
        self.database_url = database_url
        self.environment: dict[str, str | None] = {"DATABASE_URL": database_url, "VANGUARD_SECRET": SECRET}

    def run(self, *arguments: str, typed: str = "") -> Result:
        return CliRunner(env=self.environment).invoke(main, arguments, input=typed)

    def ok(self, *arguments: str, typed: str = "") -> str:
        result = self.run(*arguments, typed=typed)
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
        return result.stdout

    def refused(self, *arguments: str, typed: str = "", status: int = 1) -> str:
        """The one line that it says, without a traceback."""
        result = self.run(*arguments, typed=typed)
        assert result.exit_code == status, result.output
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        return result.stderr

    def fetch(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query.encode()).fetchall()


@pytest.fixture
def shell(database_url: str) -> Shell:
    """The command line over a migrated database."""
    return Shell(database_url)


@pytest.fixture
def acme(shell: Shell) -> Shell:
    """With the organization acme and its ADMIN ann."""
    shell.ok("org", "add", "acme", "--name", "Acme")
    shell.ok(
        "account", "add", "Ann@Demo.example", "--name", "Ann", "--org", "acme", "--role", "admin", "--password-stdin",
        typed=f"{PASSWORD}\n",
    )  # fmt: skip
    return shell


def test_an_organization_comes_with_its_datasets(acme: Shell) -> None:
    assert acme.fetch("SELECT organization_id, name, contract_version, revision FROM dataset") == [
        ("acme", "pfa", "1.0", 0)
    ]
    assert re.search(r"acme +Acme +1 +members", acme.ok("org", "list"))
    assert "already" in acme.refused("org", "add", "acme", "--name", "Again")


@pytest.mark.parametrize("organization", ["", "A", "a b", "a'b", "_a", "a" * 64, "\u00e9", "a\n"])
def test_an_organizations_id_is_plain(shell: Shell, organization: str) -> None:
    assert "id" in shell.refused("org", "add", organization, "--name", "X")


def test_an_account_is_stored_with_a_hash_only(acme: Shell) -> None:
    ((email, name, stored, operator),) = acme.fetch("SELECT email, name, password_hash, operator FROM account")
    assert (email, name, operator) == ("ann@demo.example", "Ann", False)
    assert PASSWORD not in str(stored)
    assert matches(str(stored), PASSWORD)
    assert re.search(r"ann@demo.example +Ann +acme: ADMIN", acme.ok("account", "list"))


def test_an_address_has_one_account_however_its_letters_are_composed(acme: Shell) -> None:
    acme.ok("account", "add", "rené@demo.example", "--name", "René", "--password-stdin", typed=PASSWORD)
    again = ("account", "add", "RENE\u0301@demo.example", "--name", "René", "--password-stdin")
    assert "already" in acme.refused(*again, typed=PASSWORD)
    acme.ok("account", "role", "rene\u0301@demo.example", "acme", "VIEWER")
    acme.ok("account", "add", "maß@demo.example", "--name", "Maß", "--password-stdin", typed=PASSWORD)
    acme.ok("account", "add", "mass@demo.example", "--name", "Mass", "--password-stdin", typed=PASSWORD)


def test_a_password_is_asked_for_twice(shell: Shell) -> None:
    out = shell.ok("account", "add", "op@demo.example", "--name", "Op", "--operator", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert PASSWORD not in out
    assert re.search(r"op@demo.example +Op +operator", shell.ok("account", "list"))
    differing = shell.run("account", "password", "op@demo.example", typed=f"{PASSWORD}\nanother password\n")
    assert differing.exit_code == 1
    shell.ok("account", "password", "op@demo.example", typed="another password\nanother password\n")
    ((stored,),) = shell.fetch("SELECT password_hash FROM account")
    assert matches(str(stored), "another password")


@pytest.mark.parametrize(
    ("arguments", "typed", "says"),
    [
        (["ann@demo.example"], PASSWORD, "already"),
        (["ANN@demo.example"], PASSWORD, "already"),
        (["bob"], PASSWORD, "email"),
        (["bob@a b"], PASSWORD, "email"),
        (["bob@demo.example"], "short", "10 to 1000"),
        (["bob@demo.example"], "", "10 to 1000"),
        (["bob@demo.example"], "x" * 1001, "10 to 1000"),
        (["bob@demo.example", "--org", "missing", "--role", "VIEWER"], PASSWORD, "missing"),
    ],
)
def test_an_account_that_cannot_be_added_leaves_nothing(
    acme: Shell, arguments: list[str], typed: str, says: str
) -> None:
    said = acme.refused("account", "add", *arguments, "--name", "X", "--password-stdin", typed=typed)
    assert says in said
    assert acme.fetch("SELECT count(*) FROM account") == [(1,)]


def test_what_belongs_together_is_asked_for_together(acme: Shell) -> None:
    for arguments in (["--org", "acme"], ["--role", "ADMIN"], ["--org", "acme", "--role", "KING"]):
        assert acme.run("account", "add", "b@demo.example", "--name", "B", *arguments).exit_code == 2
    assert acme.run("account", "add", "b@demo.example", "--name", "B", "--password", PASSWORD).exit_code == 2


def test_roles_come_and_go(acme: Shell) -> None:
    acme.ok("account", "add", "bob@demo.example", "--name", "Bob", "--password-stdin", typed=PASSWORD)
    assert "ADMIN" in acme.refused("account", "remove", "ann@demo.example", "acme")
    assert "ADMIN" in acme.refused("account", "role", "ann@demo.example", "acme", "VIEWER")
    acme.ok("account", "role", "bob@demo.example", "acme", "ADMIN")
    acme.ok("account", "role", "ann@demo.example", "acme", "viewer")
    acme.ok("account", "remove", "ann@demo.example", "acme")
    assert "No such member" in acme.refused("account", "remove", "ann@demo.example", "acme")
    assert "no organization" in acme.refused("account", "role", "ann@demo.example", "missing", "ADMIN")
    assert "ADMIN" in acme.refused("account", "remove", "bob@demo.example")
    acme.ok("account", "remove", "ann@demo.example")
    assert "No such member" in acme.refused("account", "remove", "ann@demo.example")
    assert acme.fetch("SELECT email FROM account") == [("bob@demo.example",)]


def test_a_token_for_somebody(acme: Shell) -> None:
    def claims(*arguments: str) -> dict[str, object]:
        token = acme.ok("token", "ann@demo.example", *arguments).strip()
        return dict(jwt.decode(token, SECRET, algorithms=["HS256"], audience="vanguard", issuer="vanguard"))

    plain = claims()
    assert "is no operator" in acme.refused("token", "ann@demo.example", "--operator")
    acme.ok("account", "operator", "ann@demo.example")
    operator = claims("--operator", "--ttl", "60")
    assert claims()["operator"] is True
    assert "VANGUARD_MAX_TOKEN_TTL" in acme.refused("token", "ann@demo.example", "--ttl", "86401")
    assert plain["orgs"] == {"acme": "ADMIN"}
    assert "operator" not in plain
    assert operator["operator"] is True
    assert 59 < float(str(operator["exp"])) - float(str(operator["iat"])) <= 60
    assert "No such member" in acme.refused("token", "nobody@demo.example")


def test_settings_that_do_not_work_are_said_in_a_line(shell: Shell) -> None:
    shell.environment["VANGUARD_SECRET"] = "short"
    for command in (["serve"], ["migrate"], ["org", "list"]):
        assert "VANGUARD_SECRET" in shell.refused(*command, status=2)


def test_a_database_that_does_not_work_is_said_in_a_line(shell: Shell, tmp_path: Path) -> None:
    shell.environment["DATABASE_URL"] = f"postgresql://postgres@/none?host={tmp_path}"
    assert "database" in shell.refused("org", "list")
    assert "database" in shell.refused("migrate")
    shell.environment["DATABASE_URL"] = re.sub(r"/vanguard_test_\w+", "/missing", shell.database_url)
    assert "missing" in shell.refused("org", "list")
    assert "missing" in shell.refused("migrate")


def test_a_new_database_is_migrated_first(shell: Shell, server_url: str) -> None:
    with new_database(server_url) as url:
        shell.environment["DATABASE_URL"] = url
        assert "vanguard migrate" in shell.refused("org", "list")
        assert re.search(r"revision \d{4}", shell.ok("migrate"))
        shell.ok("migrate")
        shell.ok("org", "add", "acme", "--name", "Acme")


def test_serve_answers_and_stops_when_it_is_told_to(shell: Shell) -> None:
    """In a process of its own, on a port that the system chooses."""
    environment = os.environ | {
        "DATABASE_URL": shell.database_url,
        "VANGUARD_SECRET": SECRET,
        "VANGUARD_PORT": str(free_port()),
    }
    with child(*VANGUARD, "serve", env=environment, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Started worker" in line:
                break
        response = httpx.get(f"http://127.0.0.1:{environment['VANGUARD_PORT']}/health/ready", timeout=60)
        assert response.json()["status"] == "ready"
        process.send_signal(signal.SIGTERM)
        log = process.stderr.read()
        assert process.wait(60) == 0
    assert '"route": "/health/ready"' in log
    assert all(line.startswith("{") for line in log.splitlines()), "JSON lines, Granian's too"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
