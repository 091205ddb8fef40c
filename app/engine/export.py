"""From a checked Listing to the statement of all its rows, sql/exports/read_rows.sql: two arms in one order.

Every modification of the caller covers its row here, whatever the listing looks at: the whole mirror is walked, and to
tell those apart that could stay where they are would save nothing.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from app.base.statements import Statement, statement
from app.contracts.filters import Listing, Sort
from app.contracts.model import Column, Contract, snake
from app.engine.page import PageComposer
from app.engine.predicates import Arguments, Image
from app.engine.view import JOIN_DOCUMENT, JOIN_MIRROR, OWN, UNION, Composed, View, view_of

READ_ROWS = statement("exports/read_rows")
ESTIMATE_ROWS = statement("exports/estimate_rows")

# What makes a formula of a text in a spreadsheet, in other widths, too (OWASP, CSV injection).
FORMULA = "\t\n\r+-=@\uff0b\uff0d\uff1d\uff20"
CODES = ", ".join(str(ord(each)) for each in FORMULA)
APOSTROPHE = ord("'")

# How a row is written: a composite value of texts, an object with a member for each cell, an array of their JSON.
Form = Literal["composite", "object", "array"]


class Cell(msgspec.Struct, frozen=True):
    """A cell of every row: SQL that yields it as JSON, and as text; `typed`: it can have no value of another type."""

    name: str
    json: str
    text: str
    typed: bool = False


def cells_of(contract: Contract, listing: Listing) -> tuple[Cell, ...]:
    """The cells of a listing's rows: the key, which may be the row's id; the fields of documents; computed columns."""
    fields = contract.by_name if listing.fields is None else listing.fields
    return (
        *(
            Cell(name, "to_jsonb(r.row_key)", "r.row_key")
            if name == contract.id_field
            else Cell(name, f"r.doc -> '{name}'", f"r.doc ->> '{name}'")
            for name in dict.fromkeys((*contract.key_fields, *fields))
        ),
        *(_computed(contract.column_of[name]) for name in listing.computed or ()),
    )


class ExportComposer(msgspec.Struct, frozen=True):
    """Composes the statements of one listing, whose pages and totals nobody looks at."""

    contract: Contract
    listing: Listing
    organization: str
    user: str

    def rows(self, form: Form) -> Composed:
        """All rows in their order, each written in that form."""
        cells = cells_of(self.contract, self.listing)
        source = "text" if form == "composite" else "json"
        named = ", ".join(f"{getattr(cell, source)} AS c{place}" for place, cell in enumerate(cells))
        return self._composed(READ_ROWS, cells=named, line=LINES[form](cells), order=self._ordering)

    def estimate(self) -> Composed:
        """The statement whose plan estimates how many rows there are."""
        return self._composed(ESTIMATE_ROWS)

    @property
    def walks(self) -> bool:
        """Whether all rows are wanted in the order of an index. Where few may be, costs decide."""
        listing = self.listing
        return self._indexed and not (listing.conditions or listing.search or listing.sync_states)

    @property
    def _indexed(self) -> bool:
        """Whether an index has the order, but for ties."""
        fields = [sort.field for sort in self._order if sort.field != "id"]
        return not fields or (len(fields) == 1 and fields[0] in {hot.sort for hot in self.contract.hot})

    @property
    def _order(self) -> tuple[Sort, ...]:
        return PageComposer(self.contract, self.listing, self.organization, self.user).order

    @property
    def _ordering(self) -> str:
        return ", ".join(
            f"{'row_key' if sort.field == 'id' else _alias(sort)}{' DESC' if sort.descending else ''}"
            for sort in self._order
        )

    def _composed(self, item: Statement, **more: str) -> Composed:
        arguments = Arguments(self.organization, self.contract.name, self.user)
        looked_at = [*(each.field for each in self.listing.conditions), *(sort.field for sort in self._order)]
        view = view_of(self.contract, self.listing, looked_at, arguments, apart=True)
        filled = item.fill(arms=UNION.join(self._arms(view)), **more)
        return Composed(filled.within(self.contract.schema), arguments.values)

    # -- the arms -----------------------------------------------------------------------------------------------------

    def _arms(self, view: View) -> list[str]:
        mine = f"SELECT FROM pfa.modification AS x WHERE {OWN}"
        pristine = [
            "m.organization_id = $1",
            *view.filters.on(view.mirror),
            f"NOT EXISTS ({mine} AND x.row_key = m.row_key)",
        ]
        own = [] if self._indexed else [OWN]
        merged = [*own, view.lands, *view.filters.on(view.after), *view.stated]
        arms = [self._arm(view.mirror, "pfa.mirror AS m", pristine)] if view.reads_mirror else []
        return [*arms, self._arm(view.after, f"{self._modifications(view)}{JOIN_MIRROR}{JOIN_DOCUMENT}", merged)]

    def _modifications(self, view: View) -> str:
        """The caller's modifications, in order before their rows are looked up: where their images tell it. Then they
        are the caller's already.
        """
        if not self._indexed:
            return "pfa.modification AS x"
        order = ", ".join(f"{view.after.column(sort.field)}{' DESC' * sort.descending}" for sort in self._order)
        return f"(SELECT x.* FROM pfa.modification AS x WHERE {OWN} ORDER BY {order} OFFSET 0) AS x"

    def _arm(self, image: Image, source: str, conditions: list[str]) -> str:
        columns = [f"{image.column(sort.field)} AS {_alias(sort)}" for sort in self._order if sort.field != "id"]
        columns += [f"{image.column(name)} AS {_shown(name)}" for name in self.listing.computed or ()]
        columns += [f"{image.key} AS row_key", f"{image.document} AS doc"]
        where = "\n       AND ".join(conditions)
        selected = f"SELECT {', '.join(columns)}\n      FROM {source}\n     WHERE {where}"
        return f"({selected}\n     ORDER BY {self._ordering})" if self._indexed else f"({selected})"


def _alias(sort: Sort) -> str:
    return f"s_{snake(sort.field)}"


def _shown(name: str) -> str:
    return f"c_{snake(name)}"


# -- lines ------------------------------------------------------------------------------------------------------------


def _computed(column: Column) -> Cell:
    """A number is written in its shortest form, as a list has it."""
    value = f"r.{_shown(column.field)}"
    value = {"number": f"trim_scale({value})", "datetime": f"vanguard.datetime_text({value})"}.get(column.type, value)
    return Cell(column.field, f"to_jsonb({value})", f"{value}::text", typed=column.type != "text")


def _composite(cells: Sequence[Cell]) -> str:
    """What PostgreSQL makes of a row: cells with commas between them, quoted where that is needed, NULL being nothing;
    in parentheses, and with backslashes doubled.
    """
    return f"ROW({', '.join(_neutral(f'v.c{place}', cell) for place, cell in enumerate(cells))})::text"


def _neutral(text: str, cell: Cell) -> str:
    """The cell's text; one that a spreadsheet would take for a formula has an apostrophe before it. So has one that
    begins with apostrophes and then like a formula: taking one away undoes it.
    """
    if cell.typed:
        return text
    formula = f"ascii({text}) IN ({APOSTROPHE}, {CODES}) AND ascii(ltrim({text}, '''')) IN ({CODES})"
    return f"CASE WHEN {formula} AND jsonb_typeof({cell.json}) = 'string' THEN concat('''', {text}) ELSE {text} END"


def _object(cells: Sequence[Cell]) -> str:
    """PostgreSQL's own functions would put blanks between the members, or change their order."""
    members = [
        f"""'{"," if place else ""}"{cell.name}":', coalesce(v.c{place}::text, 'null')"""
        for place, cell in enumerate(cells)
    ]
    return f"concat('{{', {', '.join(members)}, '}}')"


def _array(cells: Sequence[Cell]) -> str:
    return f"jsonb_build_array({', '.join(f'v.c{place}' for place in range(len(cells)))})::text"


LINES: dict[Form, Callable[[Sequence[Cell]], str]] = {"composite": _composite, "object": _object, "array": _array}
