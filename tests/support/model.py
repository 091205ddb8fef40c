"""What Vanguard promises, in plain Python: the live merge with dictionaries and `sorted`, no SQL.

Written from the wire contract and the truth table of the three-way merge, not from the statements, so that the two can
disagree; test_model.py compares them. It knows the contracts' declarations and nothing else of the application.
"""

import datetime
import unicodedata
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

from app.contracts import Contract
from app.contracts.rule_types import Exclusive, Frozen, Ordered, Required

Document = dict[str, Any]
Query = Sequence[tuple[str, str]]
Fault = tuple[str | None, str]

WORDS = {"search", "syncState", "sort", "page", "pageSize", "after", "count", "fields", "include"}
STATES = ("conflict", "sync_error", "draft", "syncing", "committed", "in_review")


class Refused(Exception):
    """A request that is answered with a problem: its status, code, faults {(id, code)} and conflicts."""

    def __init__(self, status: int, code: str, faults: Iterable[Fault] = (), conflicts: Iterable[Document] = ()):
        super().__init__(status, code)
        self.status, self.code = status, code
        self.faults, self.conflicts = set(faults), list(conflicts)


# -- values ------------------------------------------------------------------------------------------------------------


def equal(one: Any, other: Any) -> bool:
    """Equal as JSON: numbers by value, whatever their digits; true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def shown(value: Any) -> Any:
    """A value to compare with what is shown: numbers with their digits."""
    if isinstance(value, dict):
        return {name: shown(member) for name, member in value.items()}
    if isinstance(value, list):
        return [shown(member) for member in value]
    if not isinstance(value, bool) and isinstance(value, int | Decimal):
        return "number", f"{Decimal(value) if value else abs(Decimal(value)):f}"
    return value


def fold(text: str) -> str:
    """Without regard to case, and composed: Unicode's canonical caseless form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def day(value: Any) -> datetime.date | None:
    """The day that a text stands for."""
    if not isinstance(value, str) or len(value) != 10 or not value.isascii():
        return None
    try:
        return datetime.datetime.strptime(value, "%Y-%m-%d").date()
    except ValueError:
        return None


def moment(value: Any) -> datetime.datetime | None:
    """The moment in UTC that a text stands for."""
    if not isinstance(value, str) or not value.isascii() or len(value) < 20 or value[10] + value[-1] != "TZ":
        return None
    whole, point, fraction = value[:-1].partition(".")
    if point and not (fraction.isdigit() and len(fraction) <= 6):
        return None
    try:
        found = datetime.datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return None
    return found.replace(microsecond=int(f"{fraction:0<6}") if point else 0) if len(whole) == 19 else None


def number(value: Any) -> Decimal | None:
    """A number below 1e30 with at most 20 decimals."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    exact = Decimal(value)
    exponent = exact.as_tuple().exponent
    assert isinstance(exponent, int)
    return exact if abs(exact) < Decimal("1e30") and exponent >= -20 else None


def typed(kind: str, value: Any, *, indexed: bool = False) -> Any:
    """The value of a field as filters and sorts see it; None where it is absent or not of its type."""
    if kind in ("text", "enum"):
        fits = isinstance(value, str) and not (indexed and len(value.encode()) > 500)
        return value if fits else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if kind == "date":
        return day(value)
    if kind == "datetime":
        return moment(value)
    found = number(value)
    if kind == "integer" and found is not None and (found != int(found) or abs(found) > 2**53 - 1):
        return None
    return found


def parsed(kind: str, text: str) -> Any:
    """The value that a filter's text stands for."""
    match kind:
        case "boolean":
            return {"true": True, "false": False}[text]
        case "date":
            return datetime.date.fromisoformat(text)
        case "datetime":
            return moment(text)
        case "number" | "integer":
            return Decimal(text)
        case _:
            return text


def words(query: Query, parameter: str) -> list[str]:
    """The words of a parameter that takes several, comma-separated, repeated, or both."""
    return [word for name, text in query if name == parameter for word in text.split(",") if word]


def cost(document: Document, first: str, last: str, *, actual: bool = False) -> Decimal:
    """One of the three costs of a PFA line, to the cent, half a cent up."""
    start, end = day(document.get(first)), day(document.get(last))
    rate, price = number(document.get("monthlyRate")), number(document.get("purchasePrice"))
    exact = Fraction(0)
    if actual and (start is None or end is None):
        pass
    elif document.get("source") == "Rental" and start and end and rate is not None:
        exact = max(0, (end - start).days) * Fraction(rate) / Fraction("30.44")
    elif document.get("source") == "Purchase" and price is not None:
        exact = Fraction(price)
    return rounded(exact)


def rounded(exact: Fraction) -> Decimal:
    """To two decimals, half away from zero."""
    return Decimal(int(abs(exact) * 100 + Fraction(1, 2))) / 100 * (-1 if exact < 0 else 1)


COSTS = {
    "planCost": ("originalStart", "originalEnd"),
    "forecastCost": ("forecastStart", "forecastEnd"),
    "actualCost": ("actualStart", "actualEnd"),
}


def cents(value: Any) -> Decimal | None:
    """An amount rounded to two decimals, half away from zero."""
    amount = number(value)
    return None if amount is None else rounded(Fraction(amount))


def incomplete(document: Document) -> bool:
    """Whether the cost of plan or forecast lacks a date, a rate or a price."""
    if document.get("source") == "Purchase":
        return number(document.get("purchasePrice")) is None
    days = [day(document.get(name)) for pair in (COSTS["planCost"], COSTS["forecastCost"]) for name in pair]
    return document.get("source") != "Rental" or None in days or number(document.get("monthlyRate")) is None


def computed(name: str, document: Document) -> Any:
    """A computed column of the built-in contract."""
    if name in COSTS:
        return cost(document, *COSTS[name], actual=name == "actualCost")
    if name == "incomplete":
        return incomplete(document)
    kind, amount = {"monthlyRental": ("Rental", "monthlyRate"), "purchaseCost": ("Purchase", "purchasePrice")}[name]
    return cents(document.get(amount)) if document.get("source") == kind else None


def figure(value: Any) -> Any:
    """What is computed, as it is written: a number in its shortest form."""
    if not isinstance(value, Decimal):
        return value
    text = f"{value:f}"
    return Decimal(text.rstrip("0").rstrip(".") if "." in text else text)


# -- layers ------------------------------------------------------------------------------------------------------------


def lay(document: Document | None, op: str | None, delta: Document) -> Document | None:
    """One layer over a row, None being no row."""
    match op:
        case "insert":
            return {**(document or {}), **delta}
        case "update":
            return None if document is None else {**document, **delta}
        case "delete":
            return None
        case _:
            return document


@dataclass
class Change:
    """A frozen change that is on its way to the mirror."""

    user: str
    key: str
    op: str
    delta: Document
    state: str = "committed"
    found: Document | None = None  # the row that a deletion took away
    base: Document = field(default_factory=dict)  # of one under review
    request: str | None = None  # the change request that it is under review with


@dataclass
class Draft:
    """What a user is drafting on a row; `conflicts` as last looked for, `owner`: the session or word that it is of."""

    op: str
    delta: Document = field(default_factory=dict)
    base: Document = field(default_factory=dict)
    conflicts: list[Document] = field(default_factory=list)
    owner: str | None = None


@dataclass
class Workspace:
    """A user's drafts, and the versions of that user's modifications: None is new and not seen yet."""

    drafts: dict[str, Draft] = field(default_factory=dict)
    versions: dict[str, int | None] = field(default_factory=dict)
    last: int = 0


class Model:
    """One dataset of one organization."""

    def __init__(self, contract: Contract, rows: dict[str, Document]):
        self.contract = contract
        self.mirror: dict[str, Document] = deepcopy(rows)
        self.mirror_versions = dict.fromkeys(rows, 1)
        self.gone: dict[str, int] = {}  # key -> the revision that deleted it
        self.number = 0  # of the incarnation
        self.revision = 0
        self.changes: list[Change] = []
        self.workspaces: dict[str, Workspace] = {}
        self.skipped: list[Document] = []  # conflicts, by the last commit
        self.groups = {group.name: group.fields for group in contract.atomic_groups}

    def of(self, user: str) -> Workspace:
        """The user's workspace."""
        return self.workspaces.setdefault(user, Workspace())

    # -- the three sides --------------------------------------------------------------------------------------------

    def pending(self, user: str, key: str) -> Change | None:
        """What the user has on its way for a row, as one change."""
        folded: Change | None = None
        for change in self.changes:
            if (change.user, change.key) != (user, key):
                continue
            state = change.state if folded is None else min(folded.state, change.state, key=STATES.index)
            if folded is None or change.op in ("insert", "delete"):
                folded = Change(user, key, change.op, change.delta, state)
            elif folded.op != "delete":
                folded = Change(user, key, folded.op, {**folded.delta, **change.delta}, state)
            else:
                folded.state = state
        return folded

    def theirs(self, user: str, key: str) -> Document | None:
        """The mirror with every committed change in flight and the user's own pending folded in."""
        document = self.mirror.get(key)
        for change in self.changes:
            if change.key == key and (change.state in ("committed", "syncing") or change.user == user):
                document = lay(document, change.op, change.delta)
        return document

    def view(self, user: str, key: str) -> Document | None:
        """The row as the user sees it."""
        document, pending = self.mirror.get(key), self.pending(user, key)
        if pending:
            document = lay(document, pending.op, pending.delta)
        draft = self.of(user).drafts.get(key)
        return lay(document, draft.op, draft.delta) if draft else document

    def cell(self, name: str) -> tuple[str, tuple[str, ...]]:
        """The cell that a field, or a group by its name, belongs to: its name and fields."""
        for group, members in self.groups.items():
            if name == group or name in members:
                return group, members
        return name, (name,)

    def touched(self, names: Iterable[str]) -> list[str]:
        """These fields with the others of their atomic groups."""
        return [member for name in names for member in self.cell(name)[1]]

    def merge(self, user: str, key: str) -> tuple[str | None, Document, list[Document]]:
        """The truth table for a draft: (op, delta) to carry out, op None for nothing, and the conflicts found."""
        draft, theirs, beneath = self.of(user).drafts[key], self.theirs(user, key), self.beneath(user, key)
        whole = {"field": None, "base": draft.base, "theirs": theirs}
        if draft.op == "delete":
            if theirs is None:
                return None, {}, []
            return "delete", {}, [] if self.same_row(theirs, draft.base) else [{**whole, "mine": None}]
        if theirs is None:
            if draft.op == "insert":
                return "insert", draft.delta, []
            row = {**beneath, **draft.base}
            return None, {}, [{**whole, "base": row, "mine": {**row, **draft.delta}}]
        delta: Document = {}
        conflicts: list[Document] = []
        wanted = draft.delta
        if draft.op == "insert" and self.contract.upstream is not None:  # what a new row cannot bring
            unwritable = {*self.contract.upstream_only, *self.contract.initial}
            wanted = {name: value for name, value in wanted.items() if name not in unwritable}
        for name, members in sorted({self.cell(name) for name in wanted}):
            sides = [
                {member: side.get(member) for member in members}
                for side in (draft.base, theirs, {**draft.base, **wanted})
            ]
            base, now, mine = sides
            if equal(mine, now) or equal(mine, base):
                continue
            if equal(now, base):
                delta |= {member: mine[member] for member in members if not equal(mine[member], now[member])}
            else:
                values = sides if name in self.groups else [side[name] for side in sides]
                conflicts.append({"field": name, **dict(zip(("base", "theirs", "mine"), values, strict=True))})
        return "update" if delta else None, delta, conflicts

    @staticmethod
    def same_row(one: Document, other: Document) -> bool:
        """Whether two rows are equal, an absent field being null."""
        return all(equal(one.get(name), other.get(name)) for name in {*one, *other})

    def look(self, user: str, key: str) -> list[Document]:
        """Look for the conflicts of a draft, and keep them."""
        draft = self.of(user).drafts[key]
        draft.conflicts = deepcopy([{"id": key, **found} for found in self.merge(user, key)[2]])
        return draft.conflicts

    # -- save ---------------------------------------------------------------------------------------------------------

    def save(
        self, user: str, wanted: Sequence[Document], *, atomic: bool = False, others: Iterable[Fault] = ()
    ) -> tuple[set[str], set[Fault]]:
        """Save drafts one after the other: the ids of those saved, and the faults (id, code). What does not fit the
        contract takes the other drafts of its row with it; a refusal ends those of its row, and any version that one of
        them expects is that of before. `others`: faults that were found before.
        """
        misfits = {(request["id"], code) for request in wanted for code in self.misfits(request["id"], request)}
        if atomic and misfits:
            raise Refused(422, "VALIDATION_FAILED", misfits)
        before = deepcopy(self.of(user))
        saved: set[str] = set()
        faults, unfit = misfits | set(others), {key for key, _ in misfits}
        tried: set[str] = set()
        for request in wanted:
            key = request["id"]
            if key in unfit:
                continue
            expected = {r["expectedVersion"] for r in wanted if r["id"] == key and "expectedVersion" in r}
            mirrored = {r["expectedMirrorVersion"] for r in wanted if r["id"] == key and "expectedMirrorVersion" in r}
            stale = key not in tried and (
                (expected and expected != {before.versions.get(key, 0)})
                or (mirrored and mirrored != {self.mirror_versions.get(key, 0)})
            )
            code = self.barred(user, key) or (
                "VERSION_CONFLICT" if stale
                else self.apply(user, key, request, said=bool(mirrored), begun=key in tried)
            )  # fmt: skip
            tried.add(key)
            if code:
                faults.add((key, code))
                unfit.add(key)
            else:
                saved.add(key)
        self.stamp(user, saved)
        if faults and (atomic or not saved):
            self.workspaces[user] = before
            raise Refused(422, "VALIDATION_FAILED", faults)
        return saved, faults

    def barred(self, user: str, key: str) -> str | None:
        """The code of why nothing of the row can be saved, whatever it is; for whoever knows of sessions."""
        return None

    def misfits(self, key: str, request: Document) -> list[str]:
        """Codes of what does not fit the contract."""
        fields, codes = self.contract.by_name, []
        for name, value in request.get("delta", {}).items():
            if name not in fields:
                codes.append("UNKNOWN_FIELD")
            elif name == self.contract.text_key and request.get("op") == "insert" and value == key:
                continue
            elif not fields[name].editable:
                codes.append("READ_ONLY_FIELD")
            elif code := self.misfit(name, value):
                codes.append(code)
        codes += ["UNKNOWN_FIELD" for name in request.get("unset", ()) if name not in fields]
        if request.get("op") == "delete" and (request.get("delta") or request.get("unset")):
            codes.append("INVALID_TYPE")
        return codes

    def misfit(self, name: str, value: Any) -> str | None:
        """The code of what is wrong with a field's value."""
        declared = self.contract.by_name[name]
        if value is None:
            return None
        if typed(declared.type, value) is None:
            too_large = declared.type == "number" and isinstance(value, int | Decimal) and not isinstance(value, bool)
            return "INVALID_RANGE" if too_large else "INVALID_TYPE"
        if declared.type == "datetime" and "." in value:
            return "INVALID_TYPE" if value[-2] == "0" else None
        if declared.type == "enum":
            return None if value in declared.values else "INVALID_ENUM_VALUE"
        if declared.type == "text":
            return "INVALID_RANGE" if len(value.encode()) > declared.max_length else None
        low, high = declared.minimum, declared.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            return "INVALID_RANGE"
        return None

    def apply(self, user: str, key: str, request: Document, *, said: bool = False, begun: bool = False) -> str | None:
        """Draft one request; the code of the refusal, or None. `said`: the caller saw the mirror's row as it is, and
        nothing of what others have on its way. `begun`: the draft is of the same batch, and nobody has seen it.
        """
        space = self.of(user)
        draft, pending, theirs = space.drafts.get(key), self.pending(user, key), self.theirs(user, key)
        op, delta, unset = request.get("op", "update"), request.get("delta", {}), request.get("unset", ())
        drafted = draft.op if draft else None
        if op == "insert" and drafted != "insert":
            if theirs is not None:
                return "ROW_EXISTS"
            if (pending and pending.op == "delete") or (key in self.mirror and drafted != "update"):
                return "ROW_DELETED"
        if op != "insert" and drafted != "insert" and theirs is None:
            if op != "delete" or draft is None:
                return "ROW_DELETED" if draft or pending else "ROW_NOT_FOUND"
            del space.drafts[key]  # whoever deletes what is gone agrees
            return None
        given = {} if theirs is None else request.get("base", {})
        seen = theirs or {}
        if said:
            seen = {**self.mirror.get(key, {}), **(pending.delta if pending else {})}
        if begun and draft:
            seen = {**seen, **draft.base}
        settles = bool(draft and draft.conflicts) and not begun
        said = said or (theirs is not None and "base" in request)

        if op == "delete":
            space.drafts.pop(key, None)
            if drafted == "delete" and draft and not settles and not said:
                space.drafts[key] = draft
            elif drafted != "insert":
                shown = {**seen, **(draft.delta if draft else {})}
                stale = {name: value for name, value in given.items() if not equal(shown.get(name), value)}
                row = {**(theirs or {}), **self.shown(draft)} if draft and settles and not given else {**seen, **stale}
                space.drafts[key] = Draft("delete", {}, deepcopy(row))
                if said or (draft and draft.conflicts):
                    self.look(user, key)
            return None

        if op == "insert" and self.contract.upstream is None:
            delta = {self.contract.text_key: key, **delta}
        old = draft if draft and draft.op != "delete" else Draft("update")
        if op == "insert" and drafted in (None, "delete"):
            old = Draft("insert", {item.name: False for item in self.contract.fields if item.derived_from})
        elif op == "insert" and drafted == "update":
            old = self.again(user, key, old)
        marked = {member for found in old.conflicts for member in self.cell(found["field"] or "")[1]}
        again = {name for name in self.touched(delta) if name in marked and settles}
        kept = {name: value for name, value in {**old.delta, **delta}.items() if name not in unset}
        shown = self.shown(draft) if draft and settles else {}
        # What was first touched earlier has its base from then; a new row's is nothing.
        earlier = set(self.touched(old.delta)) - again
        if draft and drafted == "delete" and op != "insert" and not settles:
            old.base, earlier = draft.base, set(self.touched(kept))  # a deletion touches the whole row
        if drafted == "delete" and op != "insert" and settles:
            again = set(self.touched(kept))
        base: Document = {}
        for name in self.touched(kept):
            if name in given and not (name in old.delta and equal(old.delta[name], given[name])):
                base[name] = given[name]
            elif name in again:
                base[name] = shown.get(name, (theirs or {}).get(name))
            else:
                base[name] = (old.base if name in earlier else seen).get(name)
        space.drafts.pop(key, None)
        if kept or old.op == "insert":
            space.drafts[key] = Draft(old.op, kept, base, old.conflicts)
            if said or (draft and draft.conflicts):
                self.look(user, key)
        return None

    def shown(self, draft: Draft) -> Document:
        """What the draft's conflicts show as theirs, by field."""
        found: Document = {}
        for conflict in draft.conflicts:
            name, theirs = conflict["field"], conflict["theirs"]
            found |= (theirs or {}) if name is None or name in self.groups else {name: theirs}
        return found

    def again(self, user: str, key: str, draft: Draft) -> Draft:
        """A draft of a row that was deleted under it, as an insert of the whole row."""
        return Draft("insert", {**self.beneath(user, key), **draft.base, **draft.delta})

    def beneath(self, user: str, key: str) -> Document:
        """What lies beneath a user's draft, whatever others have on its way: the mirror's row, or where the mirror
        never had it, what its deletion found; with the user's pending over it.
        """
        pending = self.pending(user, key)
        deletions = [change.found for change in self.changes if change.key == key and change.found is not None]
        row = self.mirror.get(key, deletions[-1] if deletions else {})
        return {**row, **(pending.delta if pending else {})}

    def stamp(self, user: str, keys: Iterable[str]) -> None:
        """Give these modifications a new version, or none where nothing is left."""
        space = self.of(user)
        for key in keys:
            space.versions.pop(key, None)
            if key in space.drafts or self.pending(user, key):
                space.versions[key] = None

    # -- commit -------------------------------------------------------------------------------------------------------

    def commit(
        self,
        user: str,
        keys: Sequence[str] | None = None,
        *,
        expected: dict[str, int] | None = None,
        resolutions: Sequence[Document] = (),
        dry_run: bool = False,
        skip: bool = False,
    ) -> int:
        """Commit these drafts, or all: how many rows had something to change. `skip`: what conflicts stays drafted."""
        space = self.of(user)
        chosen = sorted(key for key in space.drafts if keys is None or key in keys)
        if not chosen:
            raise Refused(404, "NO_DRAFTS")
        versions = (expected or {}).items()
        stale = {(key, "VERSION_CONFLICT") for key, version in versions if space.versions.get(key, 0) != version}
        if stale:
            raise Refused(409, "VERSION_CONFLICT", stale)
        before = deepcopy(space)
        try:
            wrong = self.contradictions(chosen, resolutions)
            wrong = wrong or {fault for one in resolutions for fault in self.resolve(user, chosen, one)}
            if wrong:
                raise Refused(422, "VALIDATION_FAILED", wrong)
            plan = self.plan(user, chosen, skip=skip)
        except Refused as refused:
            self.workspaces[user] = before
            if refused.code == "MERGE_CONFLICT" and not dry_run:
                for key in {found["id"] for found in refused.conflicts}:
                    self.look(user, key)
            raise
        if dry_run:
            self.workspaces[user] = before
            return len(plan)
        left = {key: draft for key in chosen if (draft := self.left(user, key)) is not None}
        for key in chosen:
            space.drafts.pop(key, None)
        space.drafts |= left
        self.changes += plan
        if self.contract.upstream is None and plan:
            self.revision += 1
            self.changes = [change for change in self.changes if change.state == "in_review"]
            for change in plan:
                self.reach_mirror(change)
        whole = {found["id"] for found in self.skipped if found["field"] is None}
        self.stamp(user, (set(chosen) - whole) | {one["id"] for one in resolutions})
        for key in left:
            self.look(user, key)
        return len(plan)

    def left(self, user: str, key: str) -> Draft | None:
        """What stays drafted of a row that is committed as far as it does not conflict."""
        draft = self.of(user).drafts.get(key)
        found = [conflict["field"] for conflict in self.skipped if conflict["id"] == key]
        if draft is None or not found or None in found:
            return draft if found else None
        delta = {name: value for name, value in draft.delta.items() if self.cell(name)[0] in found}
        base = {name: draft.base.get(name) for name in self.touched(delta)}
        return Draft("update", delta, base, owner=draft.owner)

    def plan(self, user: str, chosen: Iterable[str], *, skip: bool = False) -> list[Change]:
        """What the drafts come to; raises Refused for conflicts unless they are skipped, then for broken rules."""
        plan, conflicts, broken = [], [], set()
        for key in chosen:
            draft = self.of(user).drafts.get(key)
            if draft is None:
                continue
            theirs = self.theirs(user, key)
            op, delta, found = self.merge(user, key)
            conflicts += [{"id": key, **conflict} for conflict in found]
            if any(conflict["field"] is None for conflict in found):
                continue
            if op == "insert" and self.contract.upstream is not None:
                kept = {name: value for name, value in delta.items() if name not in self.contract.upstream_only}
                delta = {**kept, **self.contract.initial}
            if op:
                plan.append(Change(user, key, op, delta, found=theirs if op == "delete" else None))
                broken |= {(key, code) for code in self.broken(theirs, lay(theirs, op, delta))}
        if conflicts and not skip:
            raise Refused(409, "MERGE_CONFLICT", conflicts=conflicts)
        if broken:
            raise Refused(422, "VALIDATION_FAILED", broken)
        self.skipped = conflicts
        return plan

    def reach_mirror(self, change: Change) -> None:
        """A change reaches the mirror; everybody's drafts of the row are looked at again."""
        key, document = change.key, self.mirror.pop(change.key, None)
        delta = change.delta
        if change.op == "insert":
            delta = {self.contract.text_key: key, **delta}
        after = lay(document, change.op, delta)
        if after is None:
            self.mirror_versions.pop(key, None)
            self.gone[key] = self.revision
        else:
            self.mirror[key] = after
            self.mirror_versions[key] = max(self.number, self.mirror_versions.get(key, self.gone.get(key, 0))) + 1
        for user, space in self.workspaces.items():
            draft = space.drafts.get(key)
            if draft is None:
                continue
            if after is None and draft.op == "delete":
                del space.drafts[key]
                if not self.pending(user, key):
                    space.versions.pop(key, None)
                continue
            if draft.op == "update":
                # Of a row that is gone all is kept; of one that is back, what the draft touches.
                kept = self.touched(draft.delta)
                base = {name: value for name, value in draft.base.items() if name in kept}
                gone = {**dict.fromkeys(kept), **deepcopy(document or {})}
                draft.base = gone if after is None else base
            self.look(user, key)

    def broken(self, before: Document | None, after: Document | None) -> set[str]:
        """Codes of the contract's rules that a change breaks."""
        return {code for code, _ in self.breaches(before, after)}

    def breaches(self, before: Document | None, after: Document | None) -> list[tuple[str, set[str]]]:
        """The same, each with the fields that its rule looks at."""
        found = []
        old, new = before or {}, after or {}
        for rule in self.contract.rules:
            match rule:
                case Ordered(first=first, second=second):
                    start, end = new.get(first), new.get(second)
                    # What is no day, as a mirror may hold it, has no order to break.
                    holds = not isinstance(start, str) or not isinstance(end, str) or start <= end
                    names = {first, second}
                case Required(fields=fields, when=when):
                    names = {*fields, *([when] if when else [])}
                    due = (not rule.new_rows_only or before is None) and (when is None or new.get(when) == rule.equals)
                    holds = not due or all(new.get(name) is not None for name in fields)
                case Exclusive(fields=fields):
                    names = set(fields)
                    holds = sum(new.get(name) is True for name in fields) <= 1
                case Frozen(fields=fields, when=when):
                    names = {*fields, when}
                    keeps = rule.deletable if after is None else all(equal(old.get(f), new.get(f)) for f in fields)
                    holds = old.get(when) is not True or keeps
            if after is None and not isinstance(rule, Frozen):
                continue
            changed = any(not equal(old.get(name), new.get(name)) for name in names)
            if not holds and (changed or before is None or after is None):
                found.append((rule.code, names))
        return found

    # -- resolutions, discard ---------------------------------------------------------------------------------------

    def contradictions(self, chosen: Sequence[str], resolutions: Sequence[Document]) -> set[Fault]:
        """What is wrong with resolutions by themselves: other rows, a cell twice, a row whole and in parts."""
        cells = [(one["id"], one["field"] and self.cell(one["field"])[0]) for one in resolutions]
        wrong = {key for key, _ in cells if key not in chosen}
        wrong |= {cell[0] for cell in cells if cells.count(cell) > 1}
        wrong |= {key for key, name in cells if name is None and any(k == key and n for k, n in cells)}
        return {(key, "INVALID_RESOLUTION") for key in wrong}

    def resolve(self, user: str, chosen: Sequence[str], resolution: Document) -> set[Fault]:
        """Carry a resolution out on the draft; its faults."""
        key, name, use = resolution["id"], resolution["field"], resolution["use"]
        invalid = {(key, "INVALID_RESOLUTION")}
        space = self.of(user)
        draft, theirs = space.drafts.get(key), self.theirs(user, key)
        if name is None and use == "theirs":
            space.drafts.pop(key, None)
            return set()
        if draft is None:
            return invalid
        # What is settled is what the conflict showed.
        settled = {**(theirs or {}), **self.shown(draft)}
        if name is None and draft.op == "delete":
            draft.base = deepcopy(settled if theirs else {})
            return set()
        if name is None and theirs is None and draft.op == "update":
            space.drafts[key] = self.again(user, key, draft)
            return set()
        if name is None and theirs is None:
            return set()  # a new row, which nobody else has
        names = list(draft.delta) if name is None else [name]
        for members in {self.cell(each)[1] for each in names}:
            if not set(members) <= set(self.touched(draft.delta)):
                return invalid
            mine = {**draft.base, **draft.delta}
            if use == "theirs":
                draft.delta = {each: value for each, value in draft.delta.items() if each not in members}
                continue
            draft.delta |= {each: mine.get(each) for each in members}
            if use == "value":
                values = resolution["value"] if name in self.groups else {name: resolution["value"]}
                draft.delta |= values
            if theirs is not None:  # of a row that is gone, base is what there is to insert again
                draft.base |= {each: settled.get(each) for each in members}
        if not draft.delta and draft.op == "update":
            del space.drafts[key]
        return set()

    def discard(self, user: str, keys: Sequence[str] | None = None, fields: Sequence[str] = ()) -> int:
        """Discard these drafts, or all, or some fields of them: how many."""
        space = self.of(user)
        chosen = [key for key in space.drafts if keys is None or key in keys]
        if fields:
            chosen = [key for key in chosen if set(fields) & space.drafts[key].delta.keys()]
        for key in chosen:
            draft = space.drafts[key]
            draft.delta = {name: value for name, value in draft.delta.items() if fields and name not in fields}
            if not fields or (draft.op == "update" and not draft.delta):
                del space.drafts[key]
                continue
            if draft.op != "update" or key in self.mirror:
                kept = self.touched(draft.delta)
                draft.base = {name: value for name, value in draft.base.items() if name in kept}
            self.look(user, key)
        self.stamp(user, chosen)
        return len(chosen)

    # -- what is shown ------------------------------------------------------------------------------------------------

    def sync_state(self, user: str, key: str) -> str:
        """The row's state for the user."""
        draft, pending = self.of(user).drafts.get(key), self.pending(user, key)
        holds = {pending.state} if pending else set()
        if draft:
            holds |= {"draft", *(["conflict"] if draft.conflicts else [])}
        return next((state for state in STATES if state in holds), "pristine")

    def row(self, user: str, key: str) -> Document:
        """The row as D/rows shows it."""
        document, space = self.view(user, key) or {}, self.of(user)
        draft, pending = space.drafts.get(key), self.pending(user, key)
        layers = {**(pending.delta if pending else {}), **(draft.delta if draft else {})}
        return {
            "id": key,
            "data": document,
            "syncState": self.sync_state(user, key),
            "version": space.versions.get(key, 0),
            "mirrorVersion": self.mirror_versions.get(key, 0),
            "modifiedFields": sorted(layers),
            "modifiedBy": user if draft or pending else None,
            "modifiedByName": user if draft or pending else None,
            "conflicts": draft.conflicts if draft else [],
        }

    def modifications(self, user: str) -> dict[str, Document]:
        """The user's modifications as D/drafts shows them, deletions and rows that are gone included."""
        space, found = self.of(user), {}
        for key in sorted({*space.drafts, *(change.key for change in self.changes if change.user == user)}):
            draft, beneath = space.drafts.get(key), self.mirror.get(key)
            if beneath is None:
                beneath = draft.base if draft and draft.conflicts and draft.op != "insert" else {}
            layers = self.layers(user, key)
            data = {**beneath, **layers["pending"], **layers["delta"]}
            found[key] = {**self.row(user, key), "data": data, **layers}
        return found

    def deleted(self, user: str) -> dict[str, Document]:
        """What lies beneath the user's deletions."""
        return {key: row["data"] for key, row in self.modifications(user).items() if row["op"] == "delete"}

    def layers(self, user: str, key: str) -> Document:
        """What the user's modification of the row is made of."""
        draft, pending = self.of(user).drafts.get(key), self.pending(user, key)
        return {
            "op": draft.op if draft else pending.op if pending else None,
            "delta": draft.delta if draft else {},
            "pending": pending.delta if pending else {},
            "base": {name: value for name, value in (draft.base if draft else {}).items() if value is not None},
        }

    def listing(self, user: str, query: Query) -> list[Document]:
        """All rows of the view that a query is about, in its order."""
        if any("\0" in value or "\x1f" in value for _, value in query):
            raise Refused(400, "INVALID_FILTER")
        found = {}
        gone = self.deleted(user) if "deleted" in words(query, "include") else {}
        for key in {*self.mirror, *self.of(user).drafts, *(change.key for change in self.changes)}:
            document = gone[key] if key in gone else self.view(user, key)
            if document is not None and self.wanted(user, key, document, query):
                found[key] = document
        keys = sorted(found)
        for name in reversed(words(query, "sort")):
            self._sort(keys, name, found)
        return [self.listed(user, key, found[key], query) for key in keys]

    def listed(self, user: str, key: str, document: Document, query: Query) -> Document:
        """A row of a list, with what the query wants to be shown."""
        fields, include = words(query, "fields"), words(query, "include")
        projected = {name: document.get(name) for name in fields if name in self.contract.by_name}
        row = {**self.row(user, key), "data": projected if fields else document}
        names = [item.name for item in self.contract.computed if "computed" in include or item.name in fields]
        if names or "computed" in include:
            row["computed"] = {name: figure(computed(name, document)) for name in names}
        if "layers" in include:
            row |= self.layers(user, key)
        if "deleted" in include:
            row["op"] = self.layers(user, key)["op"]
        return row

    def _sort(self, keys: list[str], name: str, found: dict[str, Document]) -> None:
        """Stable, by one key: nulls last ascending and first descending."""
        down, name = name.startswith("-"), name.removeprefix("-")
        values = {key: self.value(key, found[key], name) for key in keys}
        nulls = [key for key in keys if values[key] is None]
        others = sorted((key for key in keys if values[key] is not None), key=lambda key: values[key], reverse=down)
        keys[:] = [*nulls, *others] if down else [*others, *nulls]

    def value(self, key: str, document: Document, name: str) -> Any:
        """What filters and sorts see of a field."""
        if name == "id":
            return key
        if name not in self.contract.by_name:
            return computed(name, document)
        declared = self.contract.by_name[name]
        return typed(declared.type, document.get(name), indexed=declared.indexed)

    def kind(self, name: str) -> str:
        """The type of a field, of a cost, of the id."""
        if name == "id":
            return "text"
        return self.contract.by_name[name].type if name in self.contract.by_name else self.contract.column_of[name].type

    def wanted(self, user: str, key: str, document: Document, query: Query) -> bool:
        """Whether the row passes every filter of the query."""
        grouped: dict[str, list[str]] = {}
        for name, text in query:
            grouped.setdefault(name, []).append(text)
        for parameter, texts in grouped.items():
            if parameter == "syncState":
                passes = self.sync_state(user, key) in {state for text in texts for state in text.split(",")}
            elif parameter == "search":
                searched = [item.name for item in self.contract.fields if item.type == "text"]
                values = [document.get(name) for name in searched]
                passes = any(isinstance(value, str) and fold(texts[0]) in fold(value) for value in values)
                passes = passes or not texts[0]
            elif parameter in WORDS:
                continue
            else:
                name, _, op = parameter.rstrip("]").partition("[")
                passes = self.passes(self.value(key, document, name), op or "eq", texts, self.kind(name))
            if not passes:
                return False
        return True

    @staticmethod
    def passes(value: Any, op: str, texts: list[str], kind: str) -> bool:
        """Whether a value passes one filter."""
        if op == "isnull":
            return (value is None) == (texts[0] == "true")
        if op in ("contains", "startswith"):
            if value is None:
                return False
            whole, part = fold(value), fold(texts[0])
            return part in whole if op == "contains" else whole.startswith(part)
        if op in ("in", "nin"):
            texts = [part for text in texts for part in text.split(",")]
        wanted = [parsed(kind, text) for text in texts]
        if op in ("ne", "nin"):
            return value is None or value not in wanted
        if value is None:
            return False
        match op:
            case "eq" | "in":
                return value in wanted
            case "gt":
                return bool(value > wanted[0])
            case "gte":
                return bool(value >= wanted[0])
            case "lt":
                return bool(value < wanted[0])
            case "lte":
                return bool(value <= wanted[0])
        raise AssertionError(op)
