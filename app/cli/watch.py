"""`vanguard watch`: what happens in all organizations, as it happens.

It reads the database, as the other commands do: it sees every organization, and it sees them also while the API is away
or has no place left for a stream.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import click
import msgspec
from asyncpg import Record
from rich.console import Console

from app.accounts import find_account
from app.base.database import Connection, Database
from app.base.errors import DatabaseUnavailable, MemberNotFound, NotFound
from app.base.settings import Settings
from app.base.statements import statement
from app.cli.program import main, with_database
from app.cli.watched import Event, JsonLines, Lines, Screen
from app.engine.feed import EventType
from app.engine.tailer import BATCH, read_entries

LIST_HEADS = statement("feed/list_heads")

TICK = 0.25  # seconds between two looks: it is for eyes
AGAIN = 1.0  # seconds until the database is tried again
TYPES = [type_.value for type_ in EventType if type_ is not EventType.DRAFTS]


class Found(NamedTuple):
    """What one look brought: events, what is to be said beside, and whether more is there at once."""

    events: list[Event]
    notes: list[str]
    more: bool = False


class Follower:
    """Reads on, each organization from where it was read to."""

    def __init__(self, database: Database, organizations: Sequence[str], *, earliest: bool):
        self._database = database
        self._organizations, self._earliest = list(organizations), earliest
        self._places: dict[str, tuple[int, int]] | None = None  # epoch and number, by organization

    async def follow(self) -> AsyncIterator[Found]:
        """Look after look. Raises NotFound for an organization that there is not, and DatabaseUnavailable where the
        database is away from the beginning.
        """
        away = False
        while True:
            try:
                async with self._database.connection() as connection:
                    found = await self._look(connection)
            except DatabaseUnavailable:
                if self._places is None:
                    raise
                yield Found([], [] if away else ["The database is away. It is tried again."])
                away = True
                await asyncio.sleep(AGAIN)
                continue
            if away:
                found.notes.append("The database is there again.")
            away = False
            # Outside the connection's block: what breaks while it is shown is not the database.
            yield found
            await asyncio.sleep(0 if found.more else TICK)

    async def _look(self, connection: Connection) -> Found:
        heads = await connection.rows(LIST_HEADS, organizations=self._organizations or None)
        if missing := set(self._organizations) - {head["organization_id"] for head in heads}:
            raise NotFound(f"There is no organization {min(missing)}.")
        first, self._places = self._places is None, self._places or {}
        found = Found([], [])
        for head in heads:
            place = self._places.get(head["organization_id"]) or self._begin(head, first=first)
            self._places[head["organization_id"]] = await self._read_on(connection, head, place, found)
        return found._replace(more=any(self._places[head["organization_id"]][1] < head["number"] for head in heads))

    def _begin(self, head: Record, *, first: bool) -> tuple[int, int]:
        """Of an organization that was not there at the first look everything is new."""
        if first and not self._earliest:
            return head["epoch"], head["number"]
        return head["epoch"], head["number"] if head["oldest"] is None else head["oldest"] - 1

    async def _read_on(
        self, connection: Connection, head: Record, place: tuple[int, int], found: Found
    ) -> tuple[int, int]:
        """The place that it is read to then."""
        organization, (epoch, number) = head["organization_id"], place
        if epoch != head["epoch"] or number > head["number"]:
            found.notes.append(f"{organization}: the database was restored. What follows is of its new life.")
            return head["epoch"], head["number"]
        if number == head["number"]:
            return place
        entries = await read_entries(connection, organization, number, BATCH)
        if not entries or entries[0].number != number + 1:
            found.notes.append(f"{organization}: events were forgotten before they were read.")
            return epoch, entries[0].number - 1 if entries else head["number"]
        for entry in entries:
            text = b'{"organization":"%b","number":%d,%b}' % (organization.encode(), entry.number, entry.event)
            found.events.append(msgspec.json.decode(text, type=Event))
        return epoch, entries[-1].number


@main.command()
@click.option("--org", "organizations", multiple=True, help="This organization's events; may be given more than once.")
@click.option("--dataset", "datasets", multiple=True, help="This dataset's; likewise.")
@click.option("--type", "types", multiple=True, type=click.Choice(TYPES), help="Of this type; likewise.")
@click.option("--user", "users", multiple=True, help="What this user did, by id or email; likewise.")
@click.option(
    "--since", type=click.Choice(["now", "earliest"]), default="now", show_default=True,
    help="From now on, or everything that is kept first.",
)  # fmt: skip
@click.option("--plain", is_flag=True, help="A line for each event, also on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each event.")
def watch(
    organizations: Sequence[str], datasets: Sequence[str], types: Sequence[str], users: Sequence[str],
    since: str, *, plain: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show what happens, as it happens: the feed of every organization. Ctrl-C ends it.

    Drafts are private, and no part of it.
    """

    async def run(_: Settings, database: Database) -> None:
        ids = {await _id_of(database, user) for user in users}

        def wanted(event: Event) -> bool:
            return (
                (not datasets or event.dataset in datasets)
                and (not types or event.type in types)
                and (not ids or (event.actor is not None and event.actor.id in ids))
            )

        _end_on_signals()
        follower = Follower(database, organizations, earliest=since == "earliest")
        with suppress(asyncio.CancelledError), _view(plain=plain, as_json=as_json) as view:
            async for found in follower.follow():
                view.show([event for event in found.events if wanted(event)], found.notes)

    with_database(run)


async def _id_of(database: Database, user: str) -> str:
    """The account's id; somebody whom this installation does not know goes by the id in their tokens."""
    try:
        return (await find_account(database, user)).id
    except MemberNotFound:
        return user


def _end_on_signals() -> None:
    """Whatever is under way ends, the terminal is put back as it was, and the status is 0."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, task.cancel)


def _view(*, plain: bool, as_json: bool) -> Lines | Screen:
    console = Console()
    if as_json:
        return JsonLines()
    return Screen(console) if console.is_terminal and not plain else Lines()
