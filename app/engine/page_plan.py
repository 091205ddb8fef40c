"""The plan of a page: what of the caller's view it looks at, in which order, from where on, and how arm one is read."""

import msgspec

from app.contracts.filters import Sort
from app.engine.predicates import Image, Predicate
from app.engine.view import View

IS_NULL = "{c} IS NULL"
NOT_NULL = "{c} IS NOT NULL"


class Behind(msgspec.Struct, frozen=True):
    """Behind a sort value and an id, both ascending: one range of an index. NULLs are not in it."""

    field: str
    value: str
    key: str

    def on(self, image: Image) -> str:
        """SQL over the columns of the image."""
        return f"({image.column(self.field)}, {image.key}) > ({self.value}, {self.key})"


Step = tuple[Predicate | Behind, ...]


class PagePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of a page: all of it is known, and nothing of it is SQL but conditions whose parameters are placed.
    Their values are not in it, so pages of one shape are one statement.

    `keys` is the order without the id.
    Arm one is read directly where there is a step `walked`, with keys alone where it is `merged` and none is walked,
    and else by probing. `limit` is how far the arms go, None as far as the page; `fields` is the placeholder of the
    wanted fields, None for all of them; `computed` are the computed columns that are shown,
    None where none is asked for; `deleted`: with the rows that the caller takes away, a third arm.
    """

    view: View
    order: tuple[Sort, ...]
    keys: tuple[Sort, ...]
    mirror_steps: tuple[Step, ...]
    modification_steps: tuple[Step, ...]
    merged: bool
    walked: Step | None
    limit: int | None
    fields: str | None
    computed: tuple[str, ...] | None
    layers: bool
    overlap: bool
    deleted: bool
    keyed: bool
    counted: bool
    base_count: bool


def is_null(step: Step) -> bool:
    """Whether the rows of the step are those without a sort value."""
    return any(isinstance(condition, Predicate) and condition.template == IS_NULL for condition in step)
