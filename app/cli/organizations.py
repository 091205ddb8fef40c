"""`vanguard org`."""

import click

from app import organizations, readers
from app.base.database import Database
from app.base.settings import Settings
from app.cli.program import main, print_table, with_database, with_owner


@main.group()
def org() -> None:
    """Organizations."""


@org.command("add")
@click.argument("organization")
@click.option("--name", required=True, help="What people call it.")
def add_organization(organization: str, name: str) -> None:
    """Add ORGANIZATION, a short id, with its built-in datasets."""
    with_database(lambda _, database: organizations.add_organization(database, organization, name))
    click.echo(f"Added the organization {organization}.")


@org.command("list")
def list_organizations() -> None:
    """List organizations."""
    found = with_database(lambda _, database: organizations.list_organizations(database))
    rows = [
        (
            each.id,
            each.name,
            str(each.members),
            "identity provider" if each.managed else "members",
            each.provider or "",
        )
        for each in found
    ]
    print_table("ID", "NAME", "MEMBERS", "MANAGED BY", "IDENTITY PROVIDER", rows=rows)


@org.command("manage")
@click.argument("organization")
@click.option("--by", type=click.Choice(["provider", "members"]), required=True, help="Who says who belongs to it.")
@click.option("--issuer", help="The only identity provider whose tokens count there.")
def manage(organization: str, by: str, issuer: str | None) -> None:
    """Let ORGANIZATION be managed by its identity provider, whose tokens alone count then, or by its members."""

    async def save(settings: Settings, database: Database) -> None:
        if issuer is not None and issuer not in settings.providers:
            known = ", ".join(settings.providers) or "none"
            raise click.BadParameter(f"{issuer} is no identity provider of this installation: {known}.")
        if by == "provider" and issuer is None and len(settings.providers) != 1:
            raise click.UsageError("Say which provider: --issuer.")
        await organizations.manage(database, organization, managed=by == "provider", provider=issuer)

    with_database(save)
    click.echo(f"{organization} is managed by its {'identity provider' if by == 'provider' else 'members'}.")


@org.command("reader")
@click.argument("organization")
@click.argument("role")
@click.option("--remove", is_flag=True, help="Let it read the organization no more.")
def set_reader(organization: str, role: str, remove: bool) -> None:
    """Let the database's login role ROLE read ORGANIZATION, for reports. Done by the database's owner."""
    change = readers.remove_reader if remove else readers.save_reader
    with_owner(lambda _, database: change(database, organization, role))
    click.echo(f"{role} reads {organization} no more." if remove else f"{role} reads {organization}.")


@org.command("readers")
def list_readers() -> None:
    """List the database's login roles that read organizations."""
    found = with_owner(lambda _, database: readers.list_readers(database))
    rows = [(each.organization, each.role, "" if each.there else "no such role any more") for each in found]
    print_table("ORGANIZATION", "ROLE", "", rows=rows)


@org.command("usage")
@click.argument("organization", required=False)
@click.option("--most", type=click.IntRange(1), default=50, show_default=True, help="So many users.")
def list_usage(organization: str | None, most: int) -> None:
    """List who holds how much in drafts and kept answers, in ORGANIZATION or in all, the most first."""
    found = with_database(lambda _, database: organizations.list_held(database, organization, most))
    rows = [
        (each.organization, each.user, f"{each.rows:,}", f"{each.bytes:,}", f"{each.keys:,}", f"{each.answers:,}")
        for each in found
    ]
    print_table("ORGANIZATION", "USER", "ROWS", "BYTES", "KEYS", "BYTES OF ANSWERS", rows=rows)
