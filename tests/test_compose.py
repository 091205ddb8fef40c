"""docker-compose.yml and what it runs in the database's container: the roles, made by its script, and what each may."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

from app.base.migrations import head
from app.cli import main
from app.dev.postgres import USER, Server, embedded_bin_dir
from app.migrate import migrate
from tests.conftest import FAST
from tests.support.world import CONTRACTS, SECRET, ids, line, open_world

ROOT = Path(__file__).parent.parent
OWNER, SERVICE = "vanguard_owner", "vanguard_service"


class Installation:
    """A server of its own, as the container has it, and who logs in there."""

    def __init__(self, url: str, bin_dir: Path):
        self.url, self.bin_dir = url, bin_dir

    def initialize(self) -> None:
        """Run the script as the image does."""
        given = conninfo_to_dict(self.url)
        environment = {
            "PATH": f"{self.bin_dir}:{os.environ['PATH']}",
            "PGHOST": str(given["host"]),
            "PGPORT": str(given.get("port", "5432")),
            "POSTGRES_USER": USER,
            "POSTGRES_DB": "vanguard",
            "VANGUARD_OWNER_PASSWORD": "of-the-owner",
            "VANGUARD_SERVICE_PASSWORD": "of-the-service",
            "VANGUARD_ROLES": str(ROOT / "database/roles.sql"),
        }
        done = subprocess.run(
            ["sh", str(ROOT / "database/10-roles.sh")], env=environment, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")

    def as_(self, role: str) -> str:
        """The database's address for a role."""
        given = conninfo_to_dict(self.url)
        return f"postgresql://{role}@/vanguard?host={given['host']}&port={given.get('port', '5432')}"

    def run(self, role: str, *arguments: str, owner: str = "", typed: str = "") -> str:
        """A command of `vanguard`, as it is run in a container."""
        environment = {
            "DATABASE_URL": self.as_(role),
            "VANGUARD_SECRET": SECRET,
            "VANGUARD_OWNER_URL": self.as_(owner) if owner else None,
        }
        done = CliRunner(env=environment).invoke(main, arguments, input=typed)
        assert done.exit_code == 0, done.output
        return done.stdout

    def ask(self, role: str, query: str) -> object:
        """The first value that a role gets."""
        with psycopg.connect(self.as_(role), autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
            return None if row is None else row[0]


@pytest.fixture
def installation(short_dir: Path, bin_dir: Path | None) -> Iterator[Installation]:
    """A new volume: a server with an empty database, whose superuser is the image's."""
    with Server(short_dir / "pg", bin_dir=bin_dir, settings=FAST) as server:
        server.create_database()
        yield Installation(server.url(), bin_dir or embedded_bin_dir())


def test_each_container_logs_in_as_the_role_that_it_needs() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in ("migrate", "api", "worker"):
        environment = services[name]["environment"]
        assert f"//{SERVICE}:" in environment["DATABASE_URL"]
        assert ("VANGUARD_OWNER_URL" in environment) == (name != "worker")
        assert f"//{OWNER}:" in environment.get("VANGUARD_OWNER_URL", f"//{OWNER}:")
        assert not [variable for variable in environment if variable.startswith("POSTGRES")]
    mounted = [volume.partition(":")[0] for volume in services["database"]["volumes"]]
    assert [path for path in mounted if path.startswith("./")] == ["./database/10-roles.sh", "./database/roles.sql"]
    assert all((ROOT / path).is_file() for path in mounted if path.startswith("./"))
    assert os.access(ROOT / "database/10-roles.sh", os.X_OK)


async def test_a_new_volume_has_an_owner_and_a_service_of_few_rights(installation: Installation) -> None:
    """Given the script of a new volume, when the owner migrates, with nothing but its own rights, then the service
    logs in and works, and neither of both can become more.
    """
    installation.initialize()
    installation.initialize()  # as for an older volume: nothing changes
    assert installation.ask(USER, f"SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = '{USER}'") is True
    for role in (OWNER, SERVICE):
        above = "rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication"
        assert installation.ask(USER, f"SELECT {above} FROM pg_roles WHERE rolname = '{role}'") is False
        assert installation.ask(USER, f"SELECT rolpassword <> '' FROM pg_authid WHERE rolname = '{role}'") is True

    assert migrate(installation.as_(OWNER), CONTRACTS) == head()
    extensions = "SELECT count(*) FROM pg_extension WHERE extname IN ('pg_trgm', 'btree_gin')"
    assert installation.ask(OWNER, extensions) == 2
    foreign = (
        f"SELECT count(*) FROM pg_class WHERE relnamespace = 'pfa'::regnamespace AND relowner <> '{OWNER}'::regrole"
    )
    assert installation.ask(USER, foreign) == 0

    async with open_world(installation.as_(SERVICE), owner_url=installation.as_(OWNER)) as world:
        # What a test does by itself, it does here as the service, too.
        await world.db.execute("SET ROLE vanguard_app")
        ready = await world.http.get("/health/ready")
        assert ready.status_code == 200, ready.text
    for role in ("NONE", SERVICE, OWNER, USER, "vanguard_read"):
        with psycopg.connect(installation.as_(SERVICE), autocommit=True) as service:
            service.execute("SET ROLE vanguard_app")
            try:
                service.execute(f"SET ROLE {role}".encode())
            except psycopg.errors.InsufficientPrivilege:
                assert role in (OWNER, USER, "vanguard_read")
            for attempt in (
                "CREATE TABLE public.mine (x int)",
                "CREATE SCHEMA mine",
                "UPDATE account SET operator = TRUE",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    service.execute(attempt.encode())
    with psycopg.connect(installation.as_(OWNER), autocommit=True) as owner:
        for attempt in (f"SET ROLE {USER}", "CREATE ROLE another", "ALTER ROLE vanguard_owner SUPERUSER"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                owner.execute(attempt.encode())


def test_the_commands_of_the_installation_work_with_these_roles(installation: Installation) -> None:
    """As docs/operations.md has them: the first organization, its ADMIN, an operator, a reader."""
    installation.initialize()
    assert head() in installation.run(SERVICE, "migrate", owner=OWNER)
    installation.run(SERVICE, "org", "add", "acme", "--name", "Acme Ltd.")
    installation.run(
        SERVICE, "account", "add", "ann@acme.example", "--name", "Ann", "--org", "acme", "--role", "ADMIN",
        "--password-stdin", typed="heron violet ladder 71\n",
    )  # fmt: skip
    assert installation.run(SERVICE, "account", "operator", "ann@acme.example", owner=OWNER) == (
        "ann@acme.example is an operator.\n"
    )
    assert installation.ask(USER, "SELECT operator FROM account") is True
    installation.run(SERVICE, "account", "operator", "ann@acme.example", "--not", owner=OWNER)
    assert installation.ask(USER, "SELECT operator FROM account") is False
    installation.run(
        SERVICE, "account", "add", "bo@acme.example", "--name", "Bo", "--operator", "--password-stdin",
        owner=OWNER, typed="heron violet ladder 71\n",
    )  # fmt: skip
    assert installation.ask(USER, "SELECT operator FROM account WHERE name = 'Bo'") is True
    with psycopg.connect(installation.as_(USER), autocommit=True) as superuser:
        superuser.execute("CREATE ROLE report_acme LOGIN")
    installation.run(SERVICE, "org", "reader", "acme", "report_acme", owner=OWNER)
    assert installation.ask("report_acme", "SELECT string_agg(name, ',') FROM person") == "Ann"
    installation.run(SERVICE, "seed", "--org", "acme", "--rows", "20", owner=OWNER)
    assert installation.ask("report_acme", "SELECT count(*) FROM pfa.report") == 20


async def test_a_volume_of_before_gets_an_owner(installation: Installation) -> None:
    """Given an installation whose tables belong to the superuser, as Compose made it, with rows and drafts, when the
    script is run there, then everything belongs to the owner, who migrates, and the service goes on.
    """
    migrate(installation.as_(USER), CONTRACTS)
    async with open_world(installation.as_(USER)) as world:
        await world.organization("acme")
        ann = await world.user("ann")
        await world.mirror({"A": line()})
        await ann.draft("A", {"model": "M"})
    installation.initialize()
    for what in (
        "SELECT string_agg(c.oid::regclass::text, ', ') FROM pg_class AS c WHERE c.relnamespace::regnamespace::text IN"
        " ('public', 'vanguard', 'pfa', 'fleet') AND c.relkind IN ('r', 'v', 'm', 'S', 'c')",
        "SELECT string_agg(c.oid::regprocedure::text, ', ') FROM pg_proc AS c"
        " WHERE c.pronamespace::regnamespace::text IN ('public', 'vanguard', 'pfa', 'fleet')"
        " AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e')",
    ):
        column = "relowner" if "pg_class" in what else "proowner"
        assert installation.ask(USER, f"{what} AND c.{column} <> '{OWNER}'::regrole") is None
    assert migrate(installation.as_(OWNER), CONTRACTS) == head()
    async with open_world(installation.as_(SERVICE)) as world:
        again = type(ann)(world, ann.id, ann.organization, ann.token)
        assert ids(await again.rows(syncState="draft")) == ["A"]
        await again.draft("A", {"model": "N"})
