"""What goes wrong on request, and what others do meanwhile."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Protocol, TypeVar
from zlib import crc32

import msgspec

from app.simulator.grid import Damage, Trouble
from app.simulator.lines import Line

Endpoint = Literal["grid", "screen"]
Kind = Literal[
    "latency", "status", "drop_before", "drop_after", "late", "half", "alert", "broken_json", "html",
    "rows", "writing", "no_total", "no_headers", "empty", "cut", "duplicates", "pad", "login", "redirect", "confirm",
]  # fmt: skip
Milliseconds = Annotated[float, msgspec.Meta(ge=0)]
Position = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that goes wrong: with a share of requests, or the next `count` that the share picks, then no more.

    `at` and `action` (GET, ADD, UPDATE, DELETE) say with which requests. The rest belongs to some kinds only.
    `ms`: how long; with `up_to_ms`, something between. `status`; `retry_after` in seconds, or `retry_after_text` as it
    is. `message` and `name` of an alert. `values`: what rows say instead, by alias: rows with these `ids`, or a
    `portion` of all, always the same one; of one `organization` or of any. `first` and `last`: positions of a listing.
    `writing`: members of Writing that differ.
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
    retry_after_text: Annotated[str, msgspec.Meta(pattern=r"^[!-~]([ -~]*[!-~])?$")] | None = None
    message: str = "The system is busy"
    name: str = "Error"
    values: dict[str, Any] = {}
    ids: tuple[str, ...] = ()
    portion: Share = 1.0
    organization: str | None = None
    first: Position = 1
    last: Position | None = None
    writing: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.kind in ("empty", "cut") and self.last is None:
            raise ValueError(f"A fault of the kind {self.kind} needs a last position")


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
# Kinds of which a request can suffer more than one; those of a listing; and what writes.
SEVERAL: tuple[Kind, ...] = ("latency", "rows", "writing", "empty", "duplicates", "pad")
LISTING: tuple[Kind, ...] = ("rows", "no_total", "no_headers", "empty", "cut", "duplicates", "pad")
WRITES = ("ADD", "UPDATE", "DELETE")


class Counting(Protocol):
    """What waits for answers of the grid: all, or those that filter the organization by `of`."""

    @property
    def of(self) -> str | None: ...


T = TypeVar("T", bound=Counting)


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
            meant = _meant(fault, at, action)
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

    def trouble(self, hits: Hits) -> Trouble:
        """What goes wrong with a listing."""
        damaging, twice = [*hits.get("rows", ()), *hits.get("pad", ())], hits.get("duplicates", ())
        return Trouble(
            total="no_total" not in hits,
            headers="no_headers" not in hits,
            damage=self._damage(damaging) if damaging else None,
            twice=(lambda line: any(self._picks(fault, line) for fault in twice)) if twice else None,
            gaps=[(fault.first, fault.last or 0) for fault in hits.get("empty", ())],
            end=next((fault.last for fault in hits.get("cut", ())), None),
        )

    def _damage(self, faults: Sequence[Fault]) -> Callable[[Line], Damage]:
        def of(line: Line) -> Damage:
            damage: dict[str, Any] = {}
            for fault in faults:
                if self._picks(fault, line):
                    damage |= {"pfs_id": f"{line.pfa_id} "} if fault.kind == "pad" else fault.values
            return damage

        return of

    def _picks(self, fault: Fault, line: Line) -> bool:
        """Whether this line is among those that are meant."""
        if fault.organization not in (None, line.organization) or (fault.ids and line.pfa_id not in fault.ids):
            return False
        return crc32(f"{self._seed}/{line.organization}/{line.pfa_id}".encode()) / 2**32 < fault.portion

    def plan(self, step: Step) -> None:
        self._steps.append((step, step.after))

    def due(self, organizations: Sequence[str]) -> list[Edit]:
        """What somebody does now that the grid has answered a request with these organizations in its filters."""
        return [edit for step in come(self._steps, organizations) for edit in step.edits]


def come(waiting: list[tuple[T, int]], organizations: Sequence[str]) -> list[T]:
    """Count an answer of the grid; those that have waited for enough of them leave the list."""
    counted = [(each, left - (each.of is None or each.of in organizations)) for each, left in waiting]
    waiting[:] = [(each, left) for each, left in counted if left]
    return [each for each, left in counted if not left]


def _meant(fault: Fault, at: Endpoint, action: str | None) -> bool:
    """Whether this kind of request is meant."""
    if (fault.kind in LISTING and at != "grid") or (fault.kind == "confirm" and action not in WRITES):
        return False
    return fault.at in (None, at) and fault.action in (None, action)
