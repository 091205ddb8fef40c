"""What goes wrong on request, and what others do meanwhile."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal
from zlib import crc32

import msgspec

from app.simulator.grid import Damage, Writing
from app.simulator.lines import Line

Endpoint = Literal["grid", "screen"]
Kind = Literal[
    "latency", "status", "drop_before", "drop_after", "late", "half", "alert", "broken_json", "html",
    "rows", "writing", "no_total", "no_headers",
]  # fmt: skip
Milliseconds = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that goes wrong: with a share of requests, or the next `count` that the share picks, then no more.

    `at` and `action` (GET, ADD, UPDATE, DELETE) say with which requests. The rest belongs to some kinds only.
    `ms`: how long; with `up_to_ms`, something between. `status`; `retry_after` in seconds. `message` and `name` of an
    ErrorAlert. `values`: what rows say instead, by alias: rows with these `ids`, or a `portion` of all, always the same
    one; of one `organization` or of any. `writing`: members of Writing that differ.
    """

    kind: Kind
    at: Endpoint | None = None
    action: str | None = None
    share: Share = 1.0
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    ms: Milliseconds = 0
    up_to_ms: Milliseconds | None = None
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 500
    retry_after: Milliseconds | None = None
    message: str = "The system is busy"
    name: str = "Error"
    values: dict[str, Any] = {}
    ids: tuple[str, ...] = ()
    portion: Share = 1.0
    organization: str | None = None
    writing: dict[str, Any] = {}


class Edit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody does to a record. `fields` by the contract's names; a `put` leaves all others empty."""

    op: Literal["put", "edit", "delete"]
    organization: str
    id: str
    fields: dict[str, Any] = {}


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Edits right after the grid's n-th answer from now on; `of`: counting those that filter the organization by it."""

    after: Annotated[int, msgspec.Meta(ge=1)]
    edits: tuple[Edit, ...]
    of: str | None = None


Hits = dict[Kind, list[Fault]]
SEVERAL: tuple[Kind, ...] = ("latency", "rows", "writing")  # kinds of which a request can suffer more than one


class Faults:
    """The faults that are on. The same seed and the same requests make the same trouble."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)  # noqa: S311 - nothing is kept secret with it
        self._seed = seed
        self._on: list[tuple[Fault, int | None]] = []
        self._steps: list[tuple[Step, int]] = []
        self.hit: Counter[str] = Counter()

    @property
    def on(self) -> list[Fault]:
        """Those that are on; `count` is how often they will still happen."""
        return [msgspec.structs.replace(fault, count=left) for fault, left in self._on]

    def add(self, fault: Fault) -> None:
        self._on.append((fault, fault.count))

    def clear(self) -> None:
        """No more faults, and no more steps."""
        self._on.clear()
        self._steps.clear()

    def draw(self, at: Endpoint, action: str | None) -> Hits:
        """What goes wrong with this request: of most kinds the first that hits."""
        hits: Hits = {}
        for place, (fault, left) in enumerate(self._on):
            meant = fault.at in (None, at) and fault.action in (None, action)
            free = fault.kind not in hits or fault.kind in SEVERAL
            if meant and free and (fault.share == 1 or self._random.random() < fault.share):
                hits.setdefault(fault.kind, []).append(fault)
                self.hit[fault.kind] += 1
                self._on[place] = (fault, None if left is None else left - 1)
        self._on = [(fault, left) for fault, left in self._on if left != 0]
        return hits

    def milliseconds(self, fault: Fault) -> float:
        """How long it takes."""
        return fault.ms if fault.up_to_ms is None else self._random.uniform(fault.ms, fault.up_to_ms)

    def damage(self, faults: Sequence[Fault]) -> Callable[[Line], Damage]:
        """What lines say instead."""

        def of(line: Line) -> Damage:
            drawn = crc32(f"{self._seed}/{line.organization}/{line.pfa_id}".encode()) / 2**32
            return {
                alias: value
                for fault in faults
                if fault.organization in (None, line.organization)
                and (not fault.ids or line.pfa_id in fault.ids)
                and drawn < fault.portion
                for alias, value in fault.values.items()
            }

        return of

    def plan(self, step: Step) -> None:
        self._steps.append((step, step.after))

    def due(self, organizations: Sequence[str]) -> list[Edit]:
        """What somebody does now that the grid has answered a request with these organizations in its filters."""
        due: list[Edit] = []
        left = []
        for step, after in self._steps:
            rest = after - 1 if step.of is None or step.of in organizations else after
            if rest:
                left.append((step, rest))
            else:
                due += step.edits
        self._steps = left
        return due


def rewritten(writing: Writing, changes: dict[str, Any]) -> Writing:
    """Raises msgspec.ValidationError."""
    return msgspec.convert(msgspec.structs.asdict(writing) | changes, Writing)
