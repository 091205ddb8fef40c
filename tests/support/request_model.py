"""What change requests promise, in plain Python, on top of sessions (session_model.py).

Written from docs/merging.md and the truth table, not from the statements: what is under review is a layer of its
author's, theirs is what is committed, and a merge looks at every cell three ways.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from tests.support.model import Change, Document, Draft, Refused, equal, lay
from tests.support.session_model import LIFETIME, SessionModel

# Of each row the cells by name, or None for all of the row.
Cells = dict[str, set[str] | None]


@dataclass
class Merged:
    """What a merge did to a row: the cells as they were and are, of a new row and a deleted one all of it."""

    key: str
    op: str
    before: Document
    after: Document


@dataclass
class Request:
    """A change request; `approvals`: who approved which iteration."""

    id: str
    author: str
    session: str
    approvers: tuple[str, ...]
    state: str = "pending_review"
    iteration: int = 1
    approvals: dict[int, set[str]] = field(default_factory=dict)
    merged: list[Merged] = field(default_factory=list)
    reverts: str | None = None


@dataclass(frozen=True)
class Resolved:
    """What is done about a conflict, remembered."""

    conflict: Document
    use: str
    value: Any = None


class RequestModel(SessionModel):
    """One dataset of one organization, with its change requests."""

    requests: dict[str, Request]
    remembered: list[Resolved]
    last: dict[str, Document]  # rows that are gone, as they were

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.requests, self.remembered, self.last = {}, [], {}

    def request(self, rid: str, *states: str) -> Request:
        """A request in one of these states."""
        request = self.requests[rid]
        if request.state not in states:
            raise Refused(409, "INVALID_TRANSITION")
        return request

    def under_review(self, rid: str) -> list[Change]:
        """Its changes, by row."""
        found = [change for change in self.changes if change.request == rid and change.state == "in_review"]
        return sorted(found, key=lambda change: change.key)

    def cells(self, rid: str) -> list[tuple[str, str | None, Any, Any]]:
        """(row, field, old, new) of what is under review."""
        found: list[tuple[str, str | None, Any, Any]] = []
        for change in self.under_review(rid):
            if change.op == "delete":
                found.append((change.key, None, change.base, None))
                continue
            found += [
                (change.key, name, change.base.get(name), value)
                for name, value in sorted(change.delta.items())
                if not equal(value, change.base.get(name))
            ]
        return found

    def view(self, user: str, key: str) -> Document | None:
        """As ever, mirror and pending and delta: what is under review of a row that is gone shows on a new one, too."""
        draft, pending = self.of(user).drafts.get(key), self.pending(user, key)
        if draft and draft.op == "insert" and pending and pending.op == "update" and key not in self.mirror:
            return {**pending.delta, **draft.delta}
        return super().view(user, key)

    # -- the three sides ----------------------------------------------------------------------------------------------

    def judge(self, change: Change) -> tuple[str | None, Document, list[Document]]:
        """The truth table: (op, delta) to carry out, op None for nothing, and the conflicts."""
        theirs = self.theirs("", change.key)
        if change.op == "delete":
            if theirs is None:
                return None, {}, []
            if self.same_row(theirs, change.base):
                return "delete", {}, []
            return None, {}, [self.whole(change, theirs, None)]
        if theirs is None:
            if change.op == "insert":
                return "insert", change.delta, []
            return None, {}, [self.whole(change, None, {**change.base, **change.delta})]
        wanted = change.delta
        if change.op == "insert":
            wanted = {name: value for name, value in wanted.items() if name not in self.unwritable}
        delta: Document = {}
        conflicts: list[Document] = []
        for name, members in sorted({self.cell(name) for name in wanted}):
            base, now, mine = (
                {member: side.get(member) for member in members}
                for side in (change.base, theirs, {**change.base, **wanted})
            )
            if equal(mine, now) or equal(mine, base):
                continue
            if equal(now, base):
                delta |= {member: mine[member] for member in members if not equal(mine[member], now[member])}
                continue
            sides = [base, now, mine] if name in self.groups else [side[name] for side in (base, now, mine)]
            kind = "row_inserted" if change.op == "insert" else "group" if name in self.groups else "cell"
            conflicts.append(
                {"id": change.key, "kind": kind, "field": name}
                | dict(zip(("base", "theirs", "mine"), sides, strict=True))
            )
        return "update" if delta else None, delta, conflicts

    @property
    def unwritable(self) -> set[str]:
        """What a new row cannot bring to an upstream."""
        return set() if self.contract.upstream is None else {*self.contract.upstream_only, *self.contract.initial}

    @staticmethod
    def whole(change: Change, theirs: Document | None, mine: Document | None) -> Document:
        """The conflict of a row."""
        sides = {"base": change.base, "theirs": theirs, "mine": mine}
        return {"id": change.key, "kind": "row_deleted", "field": None, **deepcopy(sides)}

    def conflicts(self, rid: str) -> list[Document]:
        """Those of what is under review, by now."""
        return [conflict for change in self.under_review(rid) for conflict in self.judge(change)[2]]

    # -- submission ---------------------------------------------------------------------------------------------------

    def submit(self, user: str, sid: str, rid: str, approvers: Sequence[str]) -> Request:
        """A session's drafts go under review."""
        session = self.editable(user, sid)
        request = Request(rid, user, sid, tuple(approvers))
        self.freeze(user, sid, request)
        session.state = "submitted"
        self.requests[rid] = request
        return request

    def freeze(self, user: str, sid: str, request: Request) -> None:
        drafts = self.of(user).drafts
        keys = sorted(key for key, draft in drafts.items() if draft.owner == sid)
        if any(self.blocked(user, key) for key in keys):
            raise Refused(422, "VALIDATION_FAILED")
        if not keys:
            raise Refused(404, "NO_DRAFTS")
        for key in keys:
            draft = drafts.pop(key)
            base = {} if draft.op == "insert" else draft.base
            found = base if draft.op == "delete" else None
            self.changes.append(
                Change(user, key, draft.op, draft.delta, "in_review", found=found, base=base, request=request.id)
            )
            self.stir(key, [user])
        self.stamp(user, keys)

    def blocked(self, user: str, key: str) -> bool:
        """Whether rules are broken by what the draft would do, with mine where it conflicts."""
        draft, theirs = self.of(user).drafts[key], self.theirs(user, key)
        op, delta, conflicts = self.merge(user, key)
        if draft.op == "delete":
            return theirs is not None and bool(self.breaches(theirs, None))
        if draft.op == "update" and theirs is None:
            return False  # it is merged with nothing: its conflict is all
        mine = delta if op == "update" else draft.delta if op == "insert" else {}
        names = {conflict["field"] for conflict in conflicts}
        disputed = {n: v for n, v in draft.delta.items() if None in names or self.cell(n)[0] in names}
        if draft.op == "insert":
            disputed = {n: v for n, v in disputed.items() if n not in self.unwritable}
        cells = {n: v for n, v in {**mine, **disputed}.items() if not equal((theirs or {}).get(n), v)}
        return bool(cells) and bool(self.breaches(theirs, {**(theirs or {}), **cells}))

    def resubmit(self, rid: str) -> None:
        """What was sent back goes under review again."""
        request = self.request(rid, "rejected", "withdrawn")
        session = self.editable(request.author, request.session)
        self.freeze(request.author, request.session, request)
        session.state = "submitted"
        request.state, request.iteration = "pending_review", request.iteration + 1

    # -- review -------------------------------------------------------------------------------------------------------

    def approve(self, person: str, rid: str, excluded: Iterable[tuple[str, str | None]] = ()) -> None:
        """Approve all but some cells, which are the author's drafts again."""
        request = self.request(rid, "pending_review")
        wanted = list(excluded)
        if wanted:
            cells = self.named(rid, wanted)
            if all(self.is_whole(change, cells.get(change.key, set())) for change in self.under_review(rid)):
                raise Refused(422, "VALIDATION_FAILED")
            self.give_back(request, cells, None)
            request.iteration += 1
        approved = request.approvals.setdefault(request.iteration, set())
        approved.add(person)
        if set(request.approvers) <= approved:
            request.state = "approved"

    def named(self, rid: str, wanted: Iterable[tuple[str, str | None]]) -> Cells:
        """The fields that are meant, of whole cells."""
        changes = {change.key: change for change in self.under_review(rid)}
        cells: Cells = {}
        wrong = set()
        for key, name in wanted:
            members = set() if name is None else {*self.groups.get(name, [name])}
            change = changes.get(key)
            if change is None or (name is not None and not members & change.delta.keys()):
                wrong.add((key, "CELL_NOT_FOUND"))
            elif name is None or cells.get(key, set()) is None:
                cells[key] = None
            else:
                cells[key] = (cells.get(key) or set()) | members
        if wrong:
            raise Refused(422, "VALIDATION_FAILED", wrong)
        for key, fields in cells.items():
            for group in self.groups.values():
                changed = set(group) & changes[key].delta.keys()
                if fields is not None and changed & fields and not changed <= fields:
                    raise Refused(422, "GROUP_SPLIT")
        return cells

    @staticmethod
    def is_whole(change: Change, fields: set[str] | None) -> bool:
        """Whether nothing is left of a change without these fields."""
        return fields is None or (change.op == "update" and change.delta.keys() <= fields)

    def give_back(self, request: Request, cells: Cells | None, session: str | None) -> None:
        """Cells, or all, are the author's drafts again, beneath what was drafted since."""
        drafts, keys = self.of(request.author).drafts, []
        for change in self.under_review(request.id):
            if cells is not None and change.key not in cells:
                continue
            fields = None if cells is None else cells[change.key]
            keys.append(change.key)
            if fields is None or change.op == "delete" or self.is_whole(change, fields):
                self.changes.remove(change)
                op, delta, base = change.op, change.delta, change.base
            else:
                op, delta = "update", {n: v for n, v in change.delta.items() if n in fields}
                base = {name: change.base.get(name) for name in fields}
                change.delta = {n: v for n, v in change.delta.items() if n not in fields}
            self.lay_under(drafts, change.key, Draft(op, delta, base, owner=session))
            self.stir(change.key, [request.author])
        for key in keys:
            self.look_again(request.author, key)
        self.stamp(request.author, keys)

    @staticmethod
    def lay_under(drafts: dict[str, Draft], key: str, layer: Draft) -> None:
        """A draft comes back under the one that there is."""
        draft = drafts.get(key)
        if draft is None:
            drafts[key] = layer
            return
        base = {**draft.base, **layer.base}
        if draft.op == "delete":
            drafts[key] = Draft("delete", {}, base, owner=draft.owner or layer.owner)
        elif draft.op == "insert":
            drafts[key] = Draft("insert", draft.delta, {}, owner=draft.owner or layer.owner)
        elif layer.op == "delete":
            drafts[key] = Draft("delete", {}, base, owner=draft.owner or layer.owner)
        else:
            drafts[key] = Draft(layer.op, {**layer.delta, **draft.delta}, base, owner=draft.owner or layer.owner)

    def look_again(self, user: str, key: str) -> None:
        """A draft after what lies beneath it moved; the deletion of what is gone has come true."""
        draft = self.of(user).drafts.get(key)
        if draft is None:
            return
        if draft.op == "delete" and self.theirs(user, key) is None:
            del self.of(user).drafts[key]
            return
        self.look(user, key)

    def send_back(self, rid: str, state: str) -> None:
        """All of it is drafts again, in its session."""
        request = self.request(rid, "pending_review")
        session = self.sessions[request.session]
        session.state, session.expires_at = "active", self.clock() + LIFETIME
        self.give_back(request, None, request.session)
        request.state = state

    # -- resolutions --------------------------------------------------------------------------------------------------

    def resolve_request(self, rid: str, chosen: Sequence[Resolved]) -> None:
        """What conflicts come to, in the next iteration; remembered."""
        request = self.request(rid, "pending_review")
        if not chosen:
            raise Refused(422, "VALIDATION_FAILED")
        self.carry_out(request, chosen)
        for one in chosen:
            self.remembered = [each for each in self.remembered if not same_conflict(each.conflict, one.conflict)]
            self.remembered.append(deepcopy(one))
        request.iteration += 1

    def carry_out(self, request: Request, chosen: Sequence[Resolved]) -> None:
        keys = sorted({one.conflict["id"] for one in chosen})
        for key in keys:
            (change,) = (change for change in self.under_review(request.id) if change.key == key)
            self.changes.remove(change)
            settled = [one for one in chosen if one.conflict["id"] == key]
            if self.settle(change, settled):
                self.changes.append(change)  # behind what was committed meanwhile
        for key in keys:
            self.look_again(request.author, key)
            self.drop(request.author, key)

    def settle(self, change: Change, settled: Sequence[Resolved]) -> bool:
        """The change as resolutions make it; whether something is left of it."""
        theirs = self.theirs("", change.key)
        if settled[0].conflict["field"] is None:
            if settled[0].use == "theirs":
                return False
            if change.op == "delete":
                change.base = change.found = deepcopy(theirs or {})
            elif theirs is None:
                change.op, change.delta, change.base = "insert", {**change.base, **change.delta}, {}
            return True
        if change.op == "insert":  # of a row that is there by now
            change.op = "update"
            change.delta = {name: value for name, value in change.delta.items() if name not in self.unwritable}
        mine = {**change.base, **change.delta}
        was = dict(change.base)
        for one in settled:
            name = one.conflict["field"]
            members = self.cell(name)[1]
            if one.use == "theirs":
                change.delta = {n: v for n, v in change.delta.items() if n not in members}
                continue
            if one.use == "value":
                change.delta |= one.value if name in self.groups else {name: one.value}
            else:
                change.delta |= {n: (mine if one.use == "mine" else was).get(n) for n in members}
            change.base |= {n: (theirs or {}).get(n) for n in members}
        return bool(change.delta)

    # -- merge --------------------------------------------------------------------------------------------------------

    def merge_request(self, rid: str, *, skip: bool = False, dry_run: bool = False) -> list[Merged]:
        """What the merge did; a refusal puts the request back to review."""
        request = self.request(rid, "approved")
        before = deepcopy((self.changes, self.workspaces))
        try:
            done = self.carry(request, skip=skip)
        except Refused as refused:
            self.changes, self.workspaces = before
            if not dry_run:
                self.review_again(request, refused)
            raise
        if dry_run:
            self.changes, self.workspaces = before
            return done
        self.finish(request, done)
        return done

    def carry(self, request: Request, *, skip: bool) -> list[Merged]:
        """What there is to do, once conflicts are out of the way."""
        conflicts = self.conflicts(request.id)
        if conflicts and not skip:
            raise Refused(409, "MERGE_CONFLICT", conflicts=conflicts)
        if conflicts:
            cells: Cells = {}
            for conflict in conflicts:
                members = None if conflict["field"] is None else set(self.cell(conflict["field"])[1])
                cells[conflict["id"]] = members and (cells.get(conflict["id"]) or set()) | members
            self.give_back(request, cells, None)
        done, broken = [], set()
        for change in self.under_review(request.id):
            theirs = self.theirs("", change.key)
            op, delta, _ = self.judge(change)
            if op == "insert" and self.contract.upstream is not None:
                kept = {name: value for name, value in delta.items() if name not in self.contract.upstream_only}
                delta = {**kept, **self.contract.initial}
            if op is None:
                continue
            after = lay(theirs, op, delta)
            # A revert brings back what the mirror had, of whatever type it was.
            broken |= {(change.key, code) for code, _ in self.breaches(theirs, after) if code != "INVALID_TYPE"}
            before = theirs or {}
            told = {name: before.get(name) for name in delta} if op == "update" else before
            done.append(Merged(change.key, op, told, delta if op != "delete" else {}))
        if broken:
            raise Refused(422, "VALIDATION_FAILED", broken)
        return done

    def review_again(self, request: Request, refused: Refused) -> None:
        """In review again; conflicts that were resolved before are resolved as then."""
        request.state, request.iteration = "pending_review", request.iteration + 1
        known = [
            Resolved(conflict, one.use, one.value)
            for conflict in refused.conflicts
            for one in self.remembered
            if same_conflict(one.conflict, conflict)
        ]
        if known:
            self.carry_out(request, known)

    def finish(self, request: Request, done: list[Merged]) -> None:
        """The request's changes are in the mirror, or on their way there."""
        local = self.contract.upstream is None
        changes = {change.key: change for change in self.under_review(request.id)}
        self.changes = [
            change for change in self.changes if change.request != request.id or change.state != "in_review"
        ]
        request.state = "closed" if local else "merged"
        if local and done:
            self.revision += 1
        for one in done:
            found = one.before if one.op == "delete" else None
            change = Change(request.author, one.key, one.op, one.after, found=found, request=request.id)
            if local:
                self.reach_mirror(change)
                if one.op == "insert":
                    one.after = {self.contract.text_key: one.key, **one.after}
            else:
                self.changes.append(change)
        request.merged = deepcopy(done)
        for key in changes:
            self.look_again(request.author, key)
            self.drop(request.author, key)

    def drop(self, user: str, key: str) -> None:
        """A modification with nothing left has no version."""
        space = self.of(user)
        if key not in space.drafts and not self.pending(user, key):
            space.versions.pop(key, None)

    def reach_mirror(self, change: Change) -> None:
        if change.op == "delete" and change.key in self.mirror:
            self.last[change.key] = gone = self.mirror[change.key]
            for each in self.changes:
                if (each.key, each.op) == (change.key, "update"):
                    each.base = {**deepcopy(gone), **each.base}
        super().reach_mirror(change)
        if change.user in self.workspaces:
            self.drop(change.user, change.key)

    # -- revert -------------------------------------------------------------------------------------------------------

    def revert(self, user: str, rid: str, new: str, sid: str) -> Request:
        """A request that undoes a merged one; of a dataset without an upstream, where everything can be written."""
        reverted = self.request(rid, "closed")
        changes = [change for one in reverted.merged if (change := self.inverse(user, one, new)) is not None]
        if not changes:
            raise Refused(409, "NOTHING_TO_REVERT")
        self.begin(user, sid, None)
        self.sessions[sid].state = "submitted"
        self.changes += changes
        request = self.requests[new] = Request(new, user, sid, (), reverts=rid)
        keys = [change.key for change in changes]
        for key in keys:
            self.look_again(user, key)
        self.stamp(user, keys)
        return request

    def inverse(self, user: str, one: Merged, rid: str) -> Change | None:
        """The change that makes a row as it was, None where it is so already."""
        now = self.mirror.get(one.key)
        made = Change(user, one.key, "update", {}, "in_review", request=rid)
        if one.op == "insert":
            made.op, made.base = "delete", deepcopy(one.after)
            made.found = made.base
            return made if now is not None else None
        if one.op == "delete":
            made.op, made.delta = "insert", deepcopy(one.before)
            there = now is not None and all(name in now and equal(now[name], v) for name, v in one.before.items())
            return None if there else made
        made.delta = {name: value for name, value in one.before.items() if not equal(value, one.after.get(name))}
        if not made.delta or (now is not None and all(equal(now.get(name), v) for name, v in made.delta.items())):
            return None
        if now is None:
            made.base = {**self.last[one.key], **one.after}
        else:
            made.base = {name: {**now, **one.after}.get(name) for name in self.touched(made.delta)}
        return made


def same_conflict(one: Document, other: Document) -> bool:
    """Whether these are the same three sides of the same cell."""
    if (one["id"], one["field"]) != (other["id"], other["field"]):
        return False
    return all(equal(one[side], other[side]) for side in ("base", "theirs", "mine"))
