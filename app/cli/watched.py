"""What `vanguard watch` shows: a screen that fills from below, or lines for people or for programs."""

import json
from collections import Counter, deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

SHOWN_IDS = 3  # of an event's rows
KEPT = 500  # events that a screen can show, however tall it is
COLOURS = {
    "pull": "cyan",
    "push": "cyan",
    "commit": "green",
    "merge": "green",
    "conflict": "red",
    "overlap": "magenta",
    "request": "blue",
    "session": "blue",
    "dataset": "yellow",
}


class Actor(msgspec.Struct, frozen=True):
    """Whoever did it; without a name where this installation does not know them."""

    id: str
    name: str | None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event of an organization's feed, as the feed tells it, with its number in place of an id."""

    organization: str
    number: int
    type: str
    at: str
    dataset: str
    revision: int | None
    actor: Actor | None
    count: int | None
    ids: list[str] = []
    keys: dict[str, str] = {}
    details: dict[str, Any]


def printable(text: str) -> str:
    """The text without anything that a terminal obeys: what cannot be printed is spelled out."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _line_of_json(event: Event) -> str:
    text = msgspec.json.encode(event).decode()
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def cells(event: Event) -> list[str]:
    """When, where, what, who, and the rest, as it may be printed."""
    who = "" if event.actor is None else event.actor.name or event.actor.id
    place = f"{event.organization}/{event.dataset}"
    return [printable(each) for each in (event.at, place, event.type, who, ", ".join(_rest(event)))]


def _rest(event: Event) -> list[str]:
    found = []
    if event.count is not None:
        more = event.count - SHOWN_IDS
        named = " ".join(event.ids[:SHOWN_IDS]) + (f" and {more:,} more" if event.ids and more > 0 else "")
        rows = f"{event.count:,} row{'' if event.count == 1 else 's'}"
        found.append(f"{rows}: {named}" if named else rows)
    found += [f"{temporary} is {key}" for temporary, key in list(event.keys.items())[:SHOWN_IDS]]
    if event.revision is not None:
        found.append(f"revision {event.revision}")
    return found + [f"{name} {value}" for name, value in event.details.items()]


class Lines:
    """A line of text for each event; what else is to be said goes to standard error, out of a pipe's way."""

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, events: Sequence[Event], notes: Sequence[str]) -> None:
        """These happened, in this order."""
        for note in notes:
            click.echo(printable(note), err=True)
        if events:
            click.echo("\n".join(self._line(event) for event in events))

    def _line(self, event: Event) -> str:
        at, place, type_, who, rest = cells(event)
        return f"{at}  {place}  {type_}  {who or '-'}  {rest}".rstrip()


class JsonLines(Lines):
    """A line of JSON for each event."""

    def _line(self, event: Event) -> str:
        return _line_of_json(event)


class Screen:
    """The newest events, as many as the terminal has room for, and how many there were of each type."""

    def __init__(self, console: Console):
        self._console = console
        self._rows: deque[list[str]] = deque(maxlen=KEPT)
        self._counts: Counter[str] = Counter()
        self._note = "Ctrl-C ends it."
        self._live = Live(console=console, screen=True, auto_refresh=False, get_renderable=self._drawn)

    def __enter__(self) -> "Screen":
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, events: Sequence[Event], notes: Sequence[str]) -> None:
        """These happened; drawn anew in any case, since the terminal may have another size."""
        self._rows.extend(cells(event) for event in events)
        self._counts.update(event.type for event in events)
        self._note = printable(notes[-1]) if notes else self._note
        self._live.refresh()

    def _drawn(self) -> Group:
        counted = ", ".join(f"{printable(type_)} {count:,}" for type_, count in self._counts.most_common())
        table = Table(box=None, pad_edge=False, expand=True, show_header=False)
        for ratio in (None, None, None, None, 1):
            table.add_column(no_wrap=True, overflow="ellipsis", ratio=ratio)
        room = max(1, self._console.height - 3)
        for row in list(self._rows)[-room:]:
            table.add_row(*(Text(each, style=COLOURS.get(row[2], "")) for each in row))
        head = Text(f"{self._counts.total():,} events  {counted}", style="bold", no_wrap=True, overflow="ellipsis")
        return Group(head, table, Text(self._note, style="dim", no_wrap=True, overflow="ellipsis"))
