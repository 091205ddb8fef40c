"""`vanguard org`."""

import click

from app import organizations
from app.cli.program import main, print_table, with_database


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
        (each.id, each.name, str(each.members), "identity provider" if each.managed else "members") for each in found
    ]
    print_table("ID", "NAME", "MEMBERS", "MANAGED BY", rows=rows)


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
