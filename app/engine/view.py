"""What a listing makes of the caller's view: conditions on the mirror, and on modifications, before and after.

How much of the caller's modifications "covers" its rows, and so has to leave the mirror's and be looked at by itself,
depends on what the listing looks at:

    indexed fields               those whose index image differs: the columns leaves and lands know it
    search                       also those whose search text differs: reworded knows it
    a field without an index     also those that touch the field
    syncState                    all of them

The aliases are the same everywhere: m the mirror's row, x the modification, d.doc the merged document.
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from app.base.statements import Statement
from app.contracts.filters import Listing
from app.contracts.model import Contract
from app.engine.predicates import Arguments, Filters, Image, Predicate, place

# The caller's modifications.
OWN = "x.organization_id = $1 AND x.user_id = $3"
# Between the sources of one statement.
UNION = "\n    UNION ALL\n    "

JOIN_MIRROR = """
      LEFT JOIN LATERAL (
               SELECT m.row_key, m.data, m.search
                 FROM pfa.mirror AS m
                WHERE m.organization_id = $1 AND m.row_key = x.row_key
                LIMIT 1
           ) AS m ON TRUE"""
JOIN_DOCUMENT = """
     CROSS JOIN LATERAL (SELECT coalesce(m.data, '{}') || x.pending || x.delta AS doc OFFSET 0) AS d"""

# The row that a modification takes away, without that: the mirror's with what is pending, or where the mirror has none,
# what the deletion found.
DELETED_BASE = "CASE WHEN x.draft_op = 'delete' AND x.conflicts IS NOT NULL THEN x.base END, '{}'"
DELETED_DOCUMENT = f"coalesce(m.data, {DELETED_BASE}) || x.pending || x.delta"
# Where that is the mirror's, as the before-image is.
AS_IN_MIRROR = "x.leaves AND x.pending = '{}'"


class Composed(msgspec.Struct, frozen=True):
    """A composed statement with its arguments; $1 organization, $2 dataset and $3 user come first."""

    statement: Statement
    arguments: list[object]
    composed: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Its file."""
        return self.statement.name

    @property
    def text(self) -> str:
        """The whole statement."""
        return self.statement.text

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the first ones; what was composed adds others behind them."""
        return self.statement.parameters

    def bind(self, given: Mapping[str, object]) -> list[object]:
        """Its own arguments: nothing is left to be given."""
        if given:
            raise TypeError(f"{self.name} is composed, and takes no {', '.join(sorted(given))}")
        return self.arguments


class DeletedImage(Image, frozen=True):
    """Rows that modifications take away, as they are without that: mostly the before-image, else read from d.doc."""

    def column(self, name: str) -> str:
        """SQL that yields the field."""
        column = self.contract.column_of.get(name)
        if column is None:
            return super().column(name)
        return f"CASE WHEN {AS_IN_MIRROR} THEN {super().column(name)} ELSE {column.of(self.document)} END"


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The caller's view as one listing wants it, its parameters placed.

    `states` is the placeholder of the wanted ones, None where the listing asks for none. `in_place` says which
    modifications that are merged in place cover their rows all the same, "" where none do.
    """

    contract: Contract
    filters: Filters
    states: str | None
    in_place: str
    reads_mirror: bool
    reads_documents: bool

    @property
    def mirror(self) -> Image:
        """The image of the mirror's rows."""
        return mirror_image(self.contract)

    @property
    def before(self) -> Image:
        """The image of a modification's row without it."""
        return Image(self.contract, "x.b_", "x.row_key", "m.data", "m.search")

    @property
    def after(self) -> Image:
        """The image of a modification's row with it."""
        return Image(self.contract, "x.a_", "x.row_key", "d.doc", "x.a_search")

    @property
    def deleted(self) -> Image:
        """The image of a row that its modification takes away, without that."""
        found = self.contract.search_expression.replace("doc ->>", "d.doc ->>")
        search = f"CASE WHEN {AS_IN_MIRROR} THEN m.search ELSE {found} END"
        return DeletedImage(self.contract, "x.b_", "x.row_key", "d.doc", search)

    @property
    def covers(self) -> str:
        """The modifications that leave or land."""
        return f"(x.leaves OR x.lands OR {self.in_place})" if self.in_place else "(x.leaves OR x.lands)"

    @property
    def leaves(self) -> str:
        """The modifications whose rows the mirror's must be read without."""
        return f"(x.leaves OR {self.in_place})" if self.in_place else "x.leaves"

    @property
    def left(self) -> str:
        """The modifications whose rows a figure of the mirror has too much."""
        return f"m.row_key IS NOT NULL AND {self.leaves}" if self.in_place else "x.leaves"

    @property
    def lands(self) -> str:
        """The modifications that are looked at by themselves. One merged in place has a row, and does not leave it."""
        if not self.in_place:
            return "x.lands"
        return f"(x.lands OR NOT x.leaves AND m.row_key IS NOT NULL AND ({self.in_place}))"

    @property
    def stated(self) -> list[str]:
        """The modifications of the wanted states, where the listing asks for some."""
        return [f"x.sync_state = ANY ({self.states})"] if self.states else []

    @property
    def taken_away(self) -> list[str]:
        """The modifications whose deleted rows pass the filters."""
        return [OWN, "x.deletes", *self.filters.on(self.deleted), *self.stated]

    @property
    def deleted_joins(self) -> str:
        """What the deleted rows' image reads beside the modification: the mirror's row only where it has to."""
        needed = self.reads_documents or self.filters.pattern is not None
        unless = "" if needed else f" AND NOT ({AS_IN_MIRROR})"
        # Without OFFSET 0 the document is made where it is read, and nowhere else.
        return f"""
      LEFT JOIN LATERAL (
               SELECT m.data, m.search
                 FROM pfa.mirror AS m
                WHERE m.organization_id = $1 AND m.row_key = x.row_key{unless}
                LIMIT 1
           ) AS m ON TRUE
     CROSS JOIN LATERAL (SELECT {DELETED_DOCUMENT} AS doc) AS d"""

    @property
    def joins(self) -> str:
        """What `left`, `lands` and their filters read beside the modification."""
        return (JOIN_MIRROR if self.in_place else "") + (JOIN_DOCUMENT if self.reads_documents else "")


def view_of(
    contract: Contract,
    listing: Listing,
    looked_at: Iterable[str],
    arguments: Arguments,
    excluded: tuple[Predicate, ...] = (),
    *,
    apart: bool = False,
) -> View:
    """The view of a listing that filters, sorts or groups by the fields `looked_at`, without the rows `excluded`;
    `apart`: every modification covers its row, whatever is looked at.
    """
    filters = place(contract, listing, arguments)
    if excluded:
        filters = Filters((*filters.predicates, *excluded), filters.pattern)
    unindexed = sorted(name for name in set(looked_at) if name != "id" and name not in contract.column_of)
    states, in_place = None, ["x.reworded"] if listing.search is not None else []
    if listing.sync_states:
        states = arguments.add([state for state in listing.sync_states if state != "pristine"], "text[]")
        in_place = ["TRUE"]
    elif apart:
        in_place = ["TRUE"]
    elif unindexed:
        touched = arguments.add(unindexed, "text[]")
        in_place.append(f"(x.pending ?| {touched} OR x.delta ?| {touched})")
    return View(
        contract=contract,
        filters=filters,
        states=states,
        in_place=" OR ".join(in_place),
        reads_mirror=reads_mirror(listing),
        reads_documents=bool(unindexed),
    )


def mirror_image(contract: Contract) -> Image:
    """Rows as the mirror has them."""
    return Image(contract, "m.f_", "m.row_key", "m.data", "m.search")


def reads_mirror(listing: Listing) -> bool:
    """Whether rows without a modification are wanted at all."""
    return not listing.sync_states or "pristine" in listing.sync_states


def conjunction(parts: Iterable[str]) -> str:
    """The conditions in one."""
    return " AND ".join(parts) or "TRUE"
