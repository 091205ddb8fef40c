"""`vanguard account` and `token`: who may come in."""

import sys

import click

from app import accounts, members
from app.base.clock import now
from app.base.database import Database
from app.base.errors import Forbidden
from app.base.settings import Settings
from app.cli.program import main, print_table, with_database, with_owner
from app.engine.audit import Act, Entry, record_everywhere
from app.web.auth import Auth, Role

ROLE = click.Choice([role.value for role in Role], case_sensitive=False)


@main.group()
def account() -> None:
    """Accounts and their roles."""


@account.command("add")
@click.argument("email")
@click.option("--name", required=True, help="What people call them.")
@click.option("--operator", is_flag=True, help="May use the system routes, which belong to no organization.")
@click.option("--org", "organization", help="An organization that they join.")
@click.option("--role", type=ROLE, help="What they are there.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def add_account(
    email: str, name: str, operator: bool, organization: str | None, role: str | None, password_stdin: bool
) -> None:
    """Add an account; asks for its password."""
    if (organization is None) != (role is None):
        raise click.UsageError("--org and --role go together.")
    roles = {organization: Role(role)} if organization is not None else {}
    password = _password(password_stdin)
    # The service makes no operators.
    (with_owner if operator else with_database)(
        lambda settings, database: accounts.add_account(
            database,
            email=email,
            name=name,
            password=password,
            operator=operator,
            roles=roles,
            strict=settings.is_production,
        )
    )
    click.echo(f"Added the account {members.normalized(email)}.")


@account.command("role")
@click.argument("email")
@click.argument("organization")
@click.argument("role", type=ROLE)
def set_role(email: str, organization: str, role: str) -> None:
    """Make EMAIL a member of ORGANIZATION, or change the role there."""
    member = with_database(lambda _, database: members.give_role(database, organization, email, Role(role)))
    click.echo(f"{member.email} is {member.role.value} of {organization}.")


@account.command("remove")
@click.argument("email")
@click.argument("organization", required=False)
def remove_account(email: str, organization: str | None) -> None:
    """Remove EMAIL from ORGANIZATION; without one, the whole account and its tokens."""
    if organization is None:
        with_database(lambda _, database: accounts.remove_account(database, email))
        click.echo(f"Removed the account {email}.")
    else:
        with_database(lambda _, database: members.end_membership(database, organization, email))
        click.echo(f"Removed {email} from {organization}.")


@account.command("password")
@click.argument("email")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def set_password(email: str, password_stdin: bool) -> None:
    """Give EMAIL another password."""
    password = _password(password_stdin)

    async def save(settings: Settings, database: Database) -> None:
        auth = Auth(settings, database, now)
        await accounts.set_password(database, auth, email, password, strict=settings.is_production)

    with_database(save)
    click.echo(f"{email} has a new password. Tokens of before have ended.")


@account.command("operator")
@click.argument("email")
@click.option("--not", "dismissed", is_flag=True, help="One no longer.")
def mark_operator(email: str, dismissed: bool) -> None:
    """Make EMAIL an operator of the installation. Done by the database's owner."""
    found = with_owner(lambda _, database: accounts.mark_operator(database, email, operator=not dismissed))
    click.echo(f"{found.email} is {'no longer an' if dismissed else 'an'} operator.")


@account.command("list")
def list_accounts() -> None:
    """List accounts with their roles."""
    found = with_database(lambda _, database: accounts.list_accounts(database))
    rows = [
        (
            each.email,
            each.name,
            ", ".join(f"{organization}: {role.value}" for organization, role in sorted(each.roles.items())),
            "operator" if each.operator else "",
        )
        for each in found
    ]
    print_table("EMAIL", "NAME", "ROLES", "", rows=rows)


@main.command()
@click.argument("email")
@click.option(
    "--operator", is_flag=True, help="With the claim for the system routes, which an operator's token has anyway."
)
@click.option("--ttl", type=click.IntRange(min=1), help="Seconds until it expires; the setting's, if not given.")
def token(email: str, operator: bool, ttl: int | None) -> None:
    """Print an access token for EMAIL."""

    async def issue(settings: Settings, database: Database) -> str:
        found = await accounts.find_account(database, email)
        if operator and not found.operator:
            raise Forbidden(f"{found.email} is no operator. Make it one: vanguard account operator {found.email}")
        if ttl is not None and ttl > settings.max_token_ttl:
            raise Forbidden(f"--ttl is {settings.max_token_ttl:,} at most (VANGUARD_MAX_TOKEN_TTL).")
        issued = Auth(settings, database, now).issue(found, ttl=ttl)
        told = {"account": found.id, "seconds": ttl or settings.token_ttl, "operator": found.operator}
        entry = Entry(at=now(), actor=None, action=Act.TOKEN_ISSUED, details=told)
        async with database.transaction() as connection:
            await record_everywhere(connection, found.roles, entry)
        return issued

    click.echo(with_database(issue))


def _password(from_stdin: bool) -> str:
    """Never from the arguments: other users of the machine can read those."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return answer
