"""What a listing makes of the caller's view: conditions on the mirror, and on modifications, before and after.

How much of the caller's modifications "covers" its rows, and so has to leave the mirror's and be looked at by itself,
depends on what the listing looks at:

    indexed fields               those whose index image differs: the columns leaves and lands know it
    search                       also those whose search text differs: reworded knows it
    a field without an index     also those that touch the field
    syncState                    all of them

The aliases are the same everywhere: m the mirror's row, x the modification, d.doc the merged document.
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from app.base.statements import Statement
from app.contracts.filters import Listing
from app.contracts.model import Contract
from app.engine.predicates import Arguments, Predicate, place

JOIN_MIRROR = """
      LEFT JOIN LATERAL (
               SELECT m.row_key, m.data, m.search
                 FROM pfa.mirror AS m
                WHERE m.organization_id = $1 AND m.row_key = x.row_key
                LIMIT 1
           ) AS m ON TRUE"""
JOIN_DOCUMENT = """
     CROSS JOIN LATERAL (SELECT coalesce(m.data, '{}') || x.pending || x.delta AS doc OFFSET 0) AS d"""


class Composed(msgspec.Struct, frozen=True):
    """A composed statement with its arguments; $1 organization, $2 dataset and $3 user come first."""

    statement: Statement
    arguments: list[object]

    @property
    def name(self) -> str:
        """Its file."""
        return self.statement.name

    @property
    def text(self) -> str:
        """The whole statement."""
        return self.statement.text

    def bind(self, given: Mapping[str, object]) -> list[object]:
        """Its own arguments: nothing is left to be given."""
        if given:
            raise TypeError(f"{self.name} is composed, and takes no {', '.join(sorted(given))}")
        return self.arguments


class View:
    """The caller's view as one listing wants it; `looked_at` names the fields that it filters, sorts or groups by."""

    def __init__(
        self, contract: Contract, listing: Listing, organization: str, dataset: str, user: str, looked_at: Iterable[str]
    ):
        self.contract = contract
        self.listing = listing
        self.fixed = (organization, dataset, user)
        self.unindexed = sorted(name for name in set(looked_at) if name != "id" and name not in contract.column_of)

    # -- columns: what a relation has for a field ---------------------------------------------------------------------

    def mirror(self, name: str) -> str:
        """The field in the mirror."""
        if name == "id":
            return "m.row_key"
        column = self.contract.column_of.get(name)
        return f"m.f_{column.name}" if column else self.contract.reader(name, "m.data")

    def before(self, name: str) -> str:
        """The field of a modification's row without the modification."""
        if name == "id":
            return "x.row_key"
        column = self.contract.column_of.get(name)
        return f"x.b_{column.name}" if column else self.contract.reader(name, "m.data")

    def after(self, name: str) -> str:
        """The field of a modification's row with it."""
        if name == "id":
            return "x.row_key"
        column = self.contract.column_of.get(name)
        return f"x.a_{column.name}" if column else self.contract.reader(name, "d.doc")

    # -- conditions ---------------------------------------------------------------------------------------------------

    def place(self, arguments: Arguments) -> None:
        """Give the listing's filters their parameters."""
        self._predicates: list[Predicate] = place(self.contract, self.listing.conditions, arguments)
        self._search = None
        if self.listing.search is not None:
            self._search = f"LIKE vanguard.search_pattern({arguments.add(self.listing.search, 'text')})"
        self.states: list[str] = []
        self._touches = ""

    def place_covering(self, arguments: Arguments) -> None:
        """And what only modifications are asked for; `states`: those of the wanted states."""
        if self.listing.sync_states:
            wanted = [state for state in self.listing.sync_states if state != "pristine"]
            self.states = [f"x.sync_state = ANY ({arguments.add(wanted, 'text[]')})"]
        elif self.unindexed:
            fields = arguments.add(self.unindexed, "text[]")
            self._touches = f"(x.pending ?| {fields} OR x.delta ?| {fields})"

    def filter(self, column: Callable[[str], str], search: str) -> list[str]:
        """The listing's filters over one of the columns above; `search` is the text that is searched there."""
        return [
            *(predicate.on(column) for predicate in self._predicates),
            *([f"{search} {self._search}"] if self._search else []),
        ]

    @property
    def reads_mirror(self) -> bool:
        """Whether rows without a modification are wanted at all."""
        return not self.listing.sync_states or "pristine" in self.listing.sync_states

    @property
    def in_place(self) -> str:
        """Which modifications that are merged in place cover their rows all the same, in this listing; "" for none."""
        if self.listing.sync_states:
            return "TRUE"
        return " OR ".join([*(["x.reworded"] if self._search else []), *([self._touches] if self._touches else [])])

    def covers(self) -> str:
        """The modifications that leave or land."""
        return f"(x.leaves OR x.lands OR {self.in_place})" if self.in_place else "(x.leaves OR x.lands)"

    def leaves(self) -> str:
        """The modifications whose rows the mirror's must be read without."""
        return f"(x.leaves OR {self.in_place})" if self.in_place else "x.leaves"

    def left(self) -> str:
        """The modifications whose rows a figure of the mirror has too much."""
        return f"m.row_key IS NOT NULL AND {self.leaves()}" if self.in_place else "x.leaves"

    def lands(self) -> str:
        """The modifications that are looked at by themselves. One merged in place has a row, and does not leave it."""
        if not self.in_place:
            return "x.lands"
        return f"(x.lands OR NOT x.leaves AND m.row_key IS NOT NULL AND ({self.in_place}))"

    def joins(self) -> str:
        """What `left`, `lands` and their filters read beside the modification."""
        return (JOIN_MIRROR if self.in_place else "") + (JOIN_DOCUMENT if self.unindexed else "")


def conjunction(parts: Iterable[str]) -> str:
    """The conditions in one."""
    return " AND ".join(parts) or "TRUE"
