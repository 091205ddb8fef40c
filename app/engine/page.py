"""From a checked Listing to the statement of its page: a plan is made, then rendered into sql/rows/read_page.sql."""

import hashlib
from functools import lru_cache
from typing import Any

import msgspec

from app.base.errors import InvalidCursor
from app.base.statements import Statement, statement
from app.contracts.filters import Listing, Sort, field_type, parse
from app.contracts.model import SQL_TYPES, Contract
from app.engine.cursors import Cursor
from app.engine.page_markers import markers
from app.engine.page_plan import IS_NULL, NOT_NULL, Behind, PagePlan, Step, is_null
from app.engine.predicates import Arguments, Predicate, place
from app.engine.view import Composed, View, conjunction, mirror_image, reads_mirror, view_of

READ_PAGE = statement("rows/read_page")
ESTIMATE_COUNT = statement("rows/estimate_count")

# The planner has to know how far the arms go, or it prepares to walk a tenth of the mirror. A literal for every page
# size would fill the statement cache, so there are two.
ARM_LIMITS = (101, 1001)


class PageComposer(msgspec.Struct, frozen=True):
    """Composes the statements of one listing; `keyed`: its rows' keys come beside them."""

    contract: Contract
    listing: Listing
    organization: str
    user: str
    keyed: bool = False

    @property
    def order(self) -> tuple[Sort, ...]:
        """The wanted sort; the id makes it total."""
        sort = self.listing.sort
        return sort if any(key.field == "id" for key in sort) else (*sort, Sort("id"))

    @property
    def reads_mirror(self) -> bool:
        """Whether rows without a modification are wanted at all."""
        return reads_mirror(self.listing)

    def page(self, cursor: Cursor | None, *, counted: bool, base_count: bool) -> Composed:
        """The page's statement; `counted`: with what the covering modifications do to the total, `base_count`: and with
        the mirror's own count.
        """
        plan, arguments = self.plan(cursor, counted=counted, base_count=base_count)
        return Composed(_rendered(plan), arguments)

    def plan(self, cursor: Cursor | None, *, counted: bool, base_count: bool) -> tuple[PagePlan, list[object]]:
        """What `page` renders, and the values of its parameters."""
        contract, listing, order = self.contract, self.listing, self.order
        offset = 0 if cursor else (listing.page - 1) * listing.page_size
        arguments = Arguments(self.organization, contract.name, self.user, offset, listing.page_size)
        looked_at = [*(condition.field for condition in listing.conditions), *(sort.field for sort in order)]
        view = view_of(contract, listing, looked_at, arguments)
        merged = _is_merged(contract, view, order)
        fields = arguments.add(list(listing.fields), "jsonb") if listing.fields is not None else None
        steps = _steps(contract, order, cursor, arguments)
        mirror_steps = _mirror_steps(steps, order, merged=merged) if view.reads_mirror else ()
        plan = PagePlan(
            view=view,
            order=order,
            keys=tuple(sort for sort in order if sort.field != "id"),
            mirror_steps=mirror_steps,
            modification_steps=steps,
            merged=merged,
            walked=_walked(mirror_steps) if merged and not offset and not listing.overlap else None,
            limit=next((limit for limit in ARM_LIMITS if offset + listing.page_size < limit), None),
            fields=fields,
            computed=listing.computed,
            layers=listing.layers,
            overlap=listing.overlap,
            deleted=listing.deleted,
            keyed=self.keyed,
            counted=counted,
            base_count=base_count,
        )
        return plan, arguments.values

    def estimate(self) -> Composed:
        """The statement whose plan estimates the mirror's count."""
        arguments = Arguments(self.organization)
        conditions = conjunction(place(self.contract, self.listing, arguments).on(mirror_image(self.contract)))
        return Composed(ESTIMATE_COUNT.fill(filter=conditions).within(self.contract.schema), arguments.values)

    @property
    def base_shape(self) -> bytes:
        """What a base count depends on, beside the revision: the filters, not the user, the sort or the page."""
        conditions = tuple((c.field, c.op, repr(c.value)) for c in self.listing.conditions)
        return _digest(self.organization, self.contract.edition, conditions, self.listing.search, self.reads_mirror)

    @property
    def view_shape(self) -> bytes:
        """What a total depends on, beside the revisions of dataset and workspace."""
        return _digest(self.base_shape, self.listing.sync_states, self.listing.deleted, self.user)


@lru_cache(maxsize=256)
def _rendered(plan: PagePlan) -> Statement:
    """Rendered once for each shape: that takes eight times as long as making the plan."""
    return READ_PAGE.fill(**markers(plan)).within(plan.view.contract.schema)


def _digest(*parts: object) -> bytes:
    """A short key for a cache, however long the filters are."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()


# -- how arm one is read ----------------------------------------------------------------------------------------------


def _is_merged(contract: Contract, view: View, order: tuple[Sort, ...]) -> bool:
    """Whether the mirror and the modifications by what they found have indexes of this order, and all that covers
    is in them. PostgreSQL merges such indexes only where they ascend.
    """
    if view.in_place or not view.reads_mirror or order[0].descending:
        return False
    return len(order) == 1 or any(order == (Sort(name), Sort("id")) for name in contract.merged_sorts)


def _mirror_steps(steps: tuple[Step, ...], order: tuple[Sort, ...], *, merged: bool) -> tuple[Step, ...]:
    """The steps as arm one takes them. Where it is joined on the sort key, those without it stand apart: no NULL
    equals another.
    """
    if steps != ((),) or not merged or len(order) == 1:
        return steps
    return tuple((Predicate(order[0].field, template),) for template in (NOT_NULL, IS_NULL))


def _walked(steps: tuple[Step, ...]) -> Step | None:
    """The step that arm one walks with the documents at hand: the only one with sort values."""
    found = [step for step in steps if not is_null(step)]
    return found[0] if len(found) == 1 else None


# -- where it goes on -------------------------------------------------------------------------------------------------


def _steps(
    contract: Contract, order: tuple[Sort, ...], cursor: Cursor | None, arguments: Arguments
) -> tuple[Step, ...]:
    """The rows beyond a cursor as disjoint steps, so that each is a range of an index and NULLs have their place:
    equal on the keys before i and beyond on key i, for each i. The last key and the id are one range where both
    ascend. Without a cursor, one step without conditions.
    """
    if cursor is None:
        return ((),)
    steps: list[Step] = []
    equal: Step = ()
    for position, (sort, value) in enumerate(zip(order, _values(contract, order, cursor), strict=True), start=1):
        if value is None:
            beyond = [NOT_NULL] if sort.descending else []
            same = IS_NULL
        else:
            parameter = arguments.add(value, _sql_type(contract, sort))
            if order[position:] == (Sort("id"),) and not sort.descending:
                behind = Behind(sort.field, parameter, arguments.add(cursor.key, "text"))
                return (*steps, (*equal, behind), (*equal, Predicate(sort.field, IS_NULL)))
            beyond = [f"{{c}} < {parameter}"] if sort.descending else [f"{{c}} > {parameter}", IS_NULL]
            same = f"{{c}} = {parameter}"
        if sort.field == "id":
            beyond = beyond[:1]
        steps += [(*equal, Predicate(sort.field, template)) for template in beyond]
        equal = (*equal, Predicate(sort.field, same))
    return tuple(steps)


def _values(contract: Contract, order: tuple[Sort, ...], cursor: Cursor) -> list[Any]:
    """What the cursor's row has for each key of the order; raises InvalidCursor when that cannot be."""
    if len(cursor.values) != sum(sort.field != "id" for sort in order):
        raise InvalidCursor("The cursor belongs to another sort. Start again without it.")
    texts = iter(cursor.values)
    return [cursor.key if sort.field == "id" else _value(contract, sort, next(texts)) for sort in order]


def _value(contract: Contract, sort: Sort, text: str | None) -> Any:
    if text is None:
        return None
    kind = field_type(contract, sort.field)
    assert kind is not None, "sort keys are checked when they are read"
    if (value := parse(kind, text)) is None:
        raise InvalidCursor("The cursor does not fit this sort. Start again without it.")
    return value


def _sql_type(contract: Contract, sort: Sort) -> str:
    kind = field_type(contract, sort.field)
    assert kind is not None, "sort keys are checked when they are read"
    return SQL_TYPES[kind]
