"""The audit of security: logins, the command line, the installation; and what no line of the log holds."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import psycopg
import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.testing import LogCapture

from app.accounts import add_account
from app.base.exact_json import encode
from app.engine.audit import INSTALLATION, Act
from app.engine.datasets import Datasets
from app.web.auth import Account, Role
from app.worker.loop import database_clock
from app.worker.upkeep import forget_own
from tests.support.ingesting import people_of
from tests.support.own import customers, registered
from tests.support.syncing import KEPT
from tests.support.world import CONTRACTS, NEW, User, World, open_world, refused
from tests.test_accounts import Shell
from tests.test_audit_routes import REFUSE, recorded
from tests.test_login import PASSWORD, enter, hashed

ANN, BEN, NOBODY = "ann@demo.example", "ben@demo.example", "nobody@demo.example"
HOME = "192.0.2.1"
STRONG, STRONGER = "rusty lantern over water", "seven quiet walruses sing"


async def known(world: World, email: str, *organizations: str) -> Account:
    """An account with the password, ANALYST in these organizations."""
    for organization in organizations:
        if organization != "acme":
            await world.organization(organization)
    roles = dict.fromkeys(organizations, Role.ANALYST)
    account = await add_account(world.runtime.database, email=email, name="Ann", password=None, roles=roles)
    await world.db.execute("UPDATE account SET password_hash = $1 WHERE email = $2", hashed(), email)
    return account


async def last(world: World) -> int:
    """The number of the newest entry."""
    return max((each["id"] for each in await recorded(world)), default=0)


def places(entries: list[dict[str, Any]]) -> list[tuple[str, str, str | None, str | None]]:
    """Where each entry stands, what it is, whose and from where."""
    return [(each["organization_id"], each["action"], each["actor"], each["address"]) for each in entries]


# -- logins ------------------------------------------------------------------------------------------------------------


async def test_a_login_is_told_in_each_organization_of_the_account(world: World) -> None:
    account, start = await known(world, ANN, "acme", "second"), 0
    await world.organization("rival")
    for password, action in ((PASSWORD, "login.succeeded"), ("wrong password", "login.failed")):
        start = await last(world)
        assert (await enter(world, ANN, password)).status_code == (200 if password == PASSWORD else 401)
        assert places(await recorded(world, start)) == [
            (organization, action, account.id, HOME) for organization in ("acme", "second")
        ]


async def test_a_login_of_no_organization_is_the_installations(world: World) -> None:
    account = await known(world, BEN)
    start = await last(world)
    await enter(world, BEN, "wrong password")
    await enter(world, BEN, PASSWORD)
    assert places(await recorded(world, start)) == [
        (INSTALLATION, "login.failed", account.id, HOME),
        (INSTALLATION, "login.succeeded", account.id, HOME),
    ]


async def test_of_an_unknown_email_the_audit_has_a_digest_and_no_word(world: World) -> None:
    """People type passwords there. The same email has the same digest, another one another."""
    typed = ("my secret passphrase", "my secret passphrase", NOBODY)
    for number, email in enumerate(typed):
        refused(await enter(world, email, "wrong password", f"192.0.2.{number}"), 401, "INVALID_CREDENTIALS")
    entries = await recorded(world)
    assert places(entries) == [(INSTALLATION, "login.failed", None, f"192.0.2.{number}") for number in range(3)]
    first, second, third = (json.loads(each["details"])["email"] for each in entries)
    assert first == second != third
    assert len(first) == 16
    for word in (*typed, "secret", "nobody", "wrong"):
        assert word not in str(entries)


async def test_known_and_unknown_take_the_same_statements(world: World) -> None:
    """One after the other and as often, so that time tells nothing of accounts."""
    await known(world, ANN, "acme")
    ran = []
    for number, email in enumerate((ANN, NOBODY)):
        before = statements()
        assert (await enter(world, email, "wrong password", f"192.0.2.{number}")).status_code == 401
        ran.append({name: times - before.get(name, 0) for name, times in statements().items()})
    assert ran[0]["audit/record_everywhere"] == 1
    assert ran[0] == ran[1]


def statements() -> dict[str, float]:
    """How often each statement has run."""
    return {
        sample.labels["statement"]: sample.value
        for metric in REGISTRY.collect()
        if metric.name == "vanguard_statement_seconds"
        for sample in metric.samples
        if sample.name.endswith("_count")
    }


@pytest.mark.parametrize("email", [ANN, NOBODY])
async def test_who_has_to_wait_leaves_no_entry(world: World, email: str) -> None:
    """Five failures from an address are looked at; whatever comes then is refused, and costs the audit nothing."""
    await known(world, ANN, "acme")
    start = await last(world)
    codes = [(await enter(world, email, "wrong password")).status_code for _ in range(12)]
    assert codes == [401] * 5 + [429] * 7
    assert len(await recorded(world, start)) == 5


async def test_many_emails_from_an_address_leave_no_more_than_it_has_failures(database_url: str) -> None:
    async with open_world(database_url, login_address_failures=3, login_account_failures=2) as world:
        codes = [(await enter(world, f"{n}@x.example", "wrong password")).status_code for n in range(8)]
        assert codes == [401] * 3 + [429] * 5
        assert len(await recorded(world)) == 3
        # And one email, from as many addresses.
        codes = [(await enter(world, NOBODY, "wrong password", f"198.51.100.{n}")).status_code for n in range(6)]
        assert codes == [401] * 2 + [429] * 4
        assert len(await recorded(world)) == 5


async def test_where_all_are_busy_nothing_is_recorded(database_url: str) -> None:
    async with open_world(database_url, login_hashes=1, login_queue=0) as world:
        async with world.runtime.hashing.turn("203.0.113.1", "x@x.example", at_home=False):
            refused(await enter(world, NOBODY, "wrong password"), 503, "LOGINS_BUSY")
        assert await recorded(world) == []


@pytest.mark.parametrize("email", [ANN, NOBODY])
async def test_a_failure_that_cannot_be_recorded_is_none(world: World, email: str) -> None:
    """Known or not, the answer is the same."""
    await known(world, ANN, "acme")
    await world.db.execute(REFUSE)
    refused(await enter(world, email, "wrong password"), 500, "INTERNAL_ERROR")


async def test_the_address_is_the_clients_behind_the_proxy(database_url: str) -> None:
    async with open_world(database_url, trusted_proxies=("127.0.0.1",)) as world:
        for given in ("203.0.113.9, 198.51.100.7", "2001:db8::17"):
            await world.http.post(
                "/api/auth/login",
                json={"email": NOBODY, "password": "wrong password"},
                headers={"X-Forwarded-For": given},
            )
        assert [each["address"] for each in await recorded(world)] == ["198.51.100.7", "2001:db8::/64"]


async def test_what_no_request_asked_for_has_no_address(world: World, ann: User) -> None:
    """Also after a request in the same task."""
    assert (await ann.get("rows")).status_code == 200
    await add_account(world.runtime.database, email=BEN, name="Ben", password=None)
    assert [each["address"] for each in await recorded(world)] == [None]


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(database_url: str) -> Shell:
    """The command line, with acme and its ADMINs ann and ben."""
    shell = Shell(database_url)
    shell.ok("org", "add", "acme", "--name", "Acme")
    for email in (ANN, BEN):
        shell.ok("account", "add", email, "--name", "N", "--org", "acme", "--role", "admin", "--password-stdin",
                 typed=f"{STRONG}\n")  # fmt: skip
    return shell


def lines(shell: Shell, *options: str) -> list[dict[str, Any]]:
    """What `vanguard audit` tells as lines of JSON."""
    return [json.loads(line) for line in shell.ok("audit", "--json", *options).splitlines()]


def test_what_the_command_line_does_is_told_as_such(shell: Shell) -> None:
    shell.ok("account", "role", ANN, "acme", "viewer")
    token = shell.ok("token", ANN, "--ttl", "60").strip()
    shell.ok("account", "password", ANN, "--password-stdin", typed=f"{STRONGER}\n")
    shell.ok("org", "manage", "acme", "--by", "members")
    shell.ok("account", "remove", ANN, "acme")
    shell.ok("account", "remove", ANN)
    found = list(reversed(lines(shell)))
    ann = next(each["details"]["account"] for each in found if each["action"] == Act.ACCOUNT_ADDED)
    by = {"by": "command line"}
    assert [(each["organization"], each["action"], each["details"]) for each in found if ben_is_not(each, ann)] == [
        ("acme", "organization.added", {"name": "Acme"} | by),
        ("acme", "account.added", {"account": ann, "operator": False} | by),
        ("acme", "member.joined", {"account": ann, "role": "ADMIN"} | by),
        ("acme", "member.role_changed", {"account": ann, "before": "ADMIN", "after": "VIEWER"} | by),
        ("acme", "token.issued", {"account": ann, "seconds": 60, "operator": False} | by),
        ("acme", "password.changed", {"account": ann} | by),
        ("acme", "organization.managed", {"before": False, "after": False, "identityProvider": None} | by),
        ("acme", "member.removed", {"account": ann, "role": "VIEWER"} | by),
        ("", "account.removed", {"account": ann} | by),
    ]
    assert {(each["actor"], each["address"]) for each in found} == {(None, None)}
    everything = str(shell.fetch("SELECT a::text FROM audit AS a"))
    for word in (STRONG, STRONGER, token, ANN):
        assert word not in everything


def ben_is_not(entry: dict[str, Any], ann: str) -> bool:
    """Whether it is about ann, or about nobody."""
    return bool(entry["details"].get("account", ann) == ann)


def test_an_operator_is_made_and_dismissed(shell: Shell) -> None:
    """And once more, which changes nothing."""
    for more in ([], [], ["--not"]):
        shell.ok("account", "operator", ANN, *more)
    told = [each["details"] for each in reversed(lines(shell, "--action", "account.operator_changed"))]
    assert [(each["before"], each["after"]) for each in told] == [(False, True), (True, False)]


def test_a_reader_is_told_where_it_reads_and_where_no_more(shell: Shell) -> None:
    role = f"read_{uuid.uuid4().hex}"
    shell.ok("org", "add", "rival", "--name", "Rival")
    with psycopg.connect(shell.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN".encode())
        try:
            for words in (["acme", role], ["acme", role], ["rival", role], ["rival", role, "--remove"]):
                shell.ok("org", "reader", *words)
        finally:
            connection.execute(f"DROP ROLE {role}".encode())
    found = [each for each in reversed(lines(shell)) if each["action"].startswith("reader.")]
    assert [(each["organization"], each["action"]) for each in found] == [
        ("acme", "reader.added"),
        ("acme", "reader.removed"),
        ("rival", "reader.added"),
        ("rival", "reader.removed"),
    ]
    assert {each["details"]["role"] for each in found} == {role}


def test_a_command_that_is_refused_leaves_no_entry(shell: Shell) -> None:
    before = len(lines(shell))
    shell.ok("account", "remove", BEN, "acme")
    for refusal in (
        ("account", "remove", ANN, "acme"),
        ("account", "remove", ANN),
        ("account", "role", ANN, "acme", "viewer"),
        ("account", "role", ANN, "nowhere", "viewer"),
        ("org", "add", "acme", "--name", "Again"),
        ("token", NOBODY),
    ):
        shell.refused(*refusal)
    assert len(lines(shell)) == before + 1


def test_operators_list_the_audit_of_all(shell: Shell) -> None:
    shell.ok("org", "add", "rival", "--name", "Rival")
    shell.ok("account", "add", "op@demo.example", "--name", "Op", "--password-stdin", typed=f"{STRONG}\n")
    found = lines(shell)
    assert {each["organization"] for each in found} == {"", "acme", "rival"}
    assert [each["at"] for each in found] == sorted((each["at"] for each in found), reverse=True)
    assert lines(shell, "--most", "2") == found[:2]
    assert {each["organization"] for each in lines(shell, "--org", "rival")} == {"rival"}
    assert [each["action"] for each in lines(shell, "--org", "")] == ["account.added"]
    assert {each["action"] for each in lines(shell, "--action", "member.joined")} == {"member.joined"}
    assert lines(shell, "--until", "2000-01-01") == []
    assert lines(shell, "--since", "2000-01-01") == found
    assert "There is no organization nowhere" in shell.refused("audit", "--org", "nowhere")
    assert shell.run("audit", "--action", "lunch.eaten").exit_code == 2
    table = shell.ok("audit", "--org", "rival")
    assert "organization.added" in table
    assert '"by":"command line"' in table


def test_an_actor_is_named_by_email_or_by_id(shell: Shell) -> None:
    ((ann,),) = shell.fetch(f"SELECT id FROM account WHERE email = '{ANN}'")

    with psycopg.connect(shell.database_url) as connection:
        connection.execute(
            "INSERT INTO audit (organization_id, at, actor, action) VALUES ('acme', now(), %s, 'commit'),"
            " ('acme', now(), 'gone', 'commit')",
            [ann],
        )
    for actor, wanted in ((ANN, [ann]), (str(ann), [ann]), ("gone", ["gone"]), ("who", [])):
        assert [each["actor"] for each in lines(shell, "--actor", actor)] == wanted


# -- retention ---------------------------------------------------------------------------------------------------------


async def test_the_installations_entries_are_forgotten_like_others(world: World) -> None:
    at = datetime.now(UTC)
    await world.db.execute(
        "INSERT INTO audit (organization_id, at, action)"
        " SELECT '', $1::timestamptz - make_interval(days => d), 'login.failed'"
        "   FROM unnest(ARRAY[3649, 3651, 9000]) AS d CROSS JOIN generate_series(1, 3000)",
        at,
    )  # fmt: skip
    datasets = Datasets(world.runtime.database, CONTRACTS)
    assert await forget_own(world.runtime.database, datasets, KEPT, database_clock) == 6000
    left = await world.db.fetch("SELECT DISTINCT at FROM audit")
    assert [each["at"] for each in left] == [at - timedelta(days=3649)]


async def test_a_contract_that_cannot_be_read_keeps_nothing_else_from_being_forgotten(world: World) -> None:
    """It is told in the log, and its own history stays."""
    engineer = (await people_of(world))["ENGINEER"]
    schemas = []
    for name in ("customers", "orders"):
        await registered(engineer, customers(name=name, source=f"/api/v1/{name}"))
        schema = await world.db.fetchval("SELECT schema_name FROM dataset WHERE name = $1", name)
        await world.db.execute(
            f"INSERT INTO {schema}.history (organization_id, revision, row_key, op, before, after, source, at)"
            " VALUES ('acme', 0, 'C1', 'update', '{}', '{}', 'ingest', now() - interval '10 years')"
        )
        await world.db.execute(f"REFRESH MATERIALIZED VIEW {schema}.kpi")
        schemas.append(schema)
    await world.db.execute("UPDATE contract SET document = '{}' WHERE dataset = 'customers'")
    datasets = Datasets(world.runtime.database, ())
    with structlog.testing.capture_logs() as lines:
        await forget_own(world.runtime.database, datasets, KEPT, database_clock)
    assert [await world.db.fetchval(f"SELECT count(*) FROM {schema}.history") for schema in schemas] == [1, 0]
    told = [line for line in lines if line["event"] == "contract cannot be read"]
    assert [(line["organization"], line["dataset"]) for line in told] == [("acme", "customers@1")]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE public.audit SET address = NULL",
        "DELETE FROM public.audit",
        "TRUNCATE public.audit",
        "ALTER TABLE public.audit DISABLE TRIGGER ALL",
        "DROP TABLE public.audit",
    ],
)
async def test_the_service_only_adds_to_the_installations_audit(world: World, sql: str) -> None:
    await enter(world, NOBODY, "wrong password")
    before = await recorded(world)
    async with world.runtime.database.connection() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.raw.execute(sql)
    assert await recorded(world) == before


# -- the log -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """What is logged, with what every line has."""
    capture, before = LogCapture(), structlog.get_config()["processors"]
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
    yield capture.entries
    structlog.configure(processors=before)


async def whose(logged: list[Any]) -> tuple[Any, Any, Any]:
    """Status, user and organization of the newest request's line."""
    (line,) = [each for each in logged if each["event"] == "request"]
    logged.clear()
    return line["status"], line.get("user"), line.get("organization")


async def test_a_line_says_whose_request_it_was_as_far_as_that_is_known(
    world: World, ann: User, logged: list[Any]
) -> None:
    await world.organization("rival")
    headers = {"Authorization": f"Bearer {ann.token}"}
    await ann.get("rows")
    assert await whose(logged) == (200, "ann", "acme")
    await ann.get("/api/auth/me")
    assert await whose(logged) == (200, "ann", None)
    await ann.get("/api/v1/orgs/acme/audit")
    assert await whose(logged) == (403, "ann", "acme")
    for foreign in ("rival", "nowhere", "my-secret"):
        await ann.get(f"/api/v1/orgs/{foreign}/datasets")
        assert await whose(logged) == (403, "ann", None)
    await ann.get("/api/v1/system/mode")
    assert await whose(logged) == (403, "ann", None)
    await ann.get("rows?sort=nothing")
    assert await whose(logged) == (400, "ann", "acme")
    await world.http.get("/api/v1/orgs/acme/datasets")
    assert await whose(logged) == (401, None, None)
    await world.http.get("/api/v1/orgs/acme/datasets", headers={"Authorization": "Bearer forged"})
    assert await whose(logged) == (401, None, None)
    await world.http.get("/nowhere", headers=headers)
    assert await whose(logged) == (404, None, None)
    await world.db.execute("DELETE FROM membership WHERE account_id = 'ann'")
    world.runtime.auth.forget()
    await ann.get("rows")
    assert await whose(logged) == (403, "ann", "acme")
    await ann.post("/api/auth/logout", {})
    logged.clear()
    await ann.get("rows")
    assert await whose(logged) == (401, "ann", "acme")
    world.clock.move(hours=9)
    await ann.get("rows")
    assert await whose(logged) == (401, "ann", None)
    await world.http.get("/nowhere")
    assert await whose(logged) == (404, None, None)


async def test_a_line_of_a_login_has_the_account_that_was_tried(world: World, logged: list[Any]) -> None:
    account = await known(world, ANN, "acme")
    for email, password, user in ((ANN, PASSWORD, account.id), (ANN, "wrong", account.id), (NOBODY, "wrong", None)):
        logged.clear()
        await enter(world, email, password)
        assert {each.get("user") for each in logged} == {user}
        assert {each["event"] for each in logged} == {"login", "request"}


async def test_no_line_has_a_token_a_password_an_email_a_name_or_a_row(
    world: World, ann: User, logged: list[Any]
) -> None:
    """Whatever is sent, wherever it is put, and whatever becomes of it: a defect as well."""
    word, mark = "hushhush", "ann@example.com"
    await known(world, ANN, "acme")
    boss = await world.user("boss", role=Role.ADMIN)
    await enter(world, ANN, word)
    await enter(world, word, word)
    await enter(world, ANN, PASSWORD)
    await world.http.post("/api/auth/login", content=encode({"email": word, "pass": word}))
    await world.http.get(f"/api/v1/orgs/{word}/datasets", headers={"Authorization": f"Bearer {word}.{word}.{word}"})
    for user in (ann, boss):
        await user.get(f"rows?model={word}&search={word}&{word}={word}")
        await user.get(f"rows/{word}")
        await user.get(f"/api/v1/orgs/{word}/datasets/{word}/rows/{word}")
        await user.get(f"/{word}")
        await user.get("rows", headers={"X-Request-ID": f"{word} {word}", "If-None-Match": word, word: word})
        await user.post("drafts", {"modifications": [{"id": word, "op": "insert", "delta": {"model": word}}]})
        await user.post("drafts", {word: word})
        await user.commit(word, changeReason=word)
        await user.get(f"export?model={word}")
        await user.request("PUT", f"/api/v1/orgs/acme/members/{mark}", json={"role": word})
        await user.request("DELETE", f"/api/v1/orgs/acme/members/{word}")
    await world.db.execute(REFUSE)
    await boss.request("PUT", f"/api/v1/orgs/acme/members/{mark}", json={"role": "VIEWER"})
    await ann.draft(word, {**NEW, "model": word}, op="insert")
    assert (await ann.commit(word)).status_code == 500
    await boss.post("/api/auth/logout", {})
    assert sum(each["event"] == "unexpected error" for each in logged) == 3
    told = encode(logged).decode()
    for secret in (word, PASSWORD, mark, ANN, ann.token, boss.token, ann.token.split(".")[2], "demo.example"):
        assert secret not in told, secret
