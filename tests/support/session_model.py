"""What sessions and undo promise, in plain Python, on top of the live merge (model.py).

Written from docs/sessions.md and docs/api.md, not from the statements: a step is put back cell by cell where a cell is
still as the step left it, and what a session never saw is as it was when the session is aborted.
"""

import datetime
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from app.contracts import Contract
from tests.support.model import Change, Document, Draft, Fault, Model, Refused, equal, lay, typed

KEPT = datetime.timedelta(days=30)
LIFETIME = datetime.timedelta(days=1)
Edit = tuple[str, str, Any]  # key, field, value
Left = set[str | None]  # fields that were left as they are, or None for the whole row


@dataclass
class Entry:
    """What a step did to a row: the draft before and after, None where there was none."""

    key: str
    before: Draft | None
    after: Draft | None


@dataclass
class Step:
    """What one request changed; `state` is done, undone or closed."""

    session: str | None
    group: str | None
    at: datetime.datetime
    entries: list[Entry]
    state: str = "done"


@dataclass
class Logged:
    """An edit in a session's log."""

    key: str
    name: str
    value: Any
    old: Any
    status: str
    step: Step


@dataclass
class Session:
    """An edit session. `found`: the draft of each row as the session first touched it; `stirred`: rows with which
    something else happened since.
    """

    id: str
    user: str
    rows: tuple[str, ...] | None
    expires_at: datetime.datetime
    state: str = "active"
    ended_at: datetime.datetime | None = None
    log: list[Logged] = field(default_factory=list)
    found: dict[str, Draft | None] = field(default_factory=dict)
    stirred: set[str] = field(default_factory=set)


@dataclass
class How:
    """How drafts are saved: the open session, what its rows are said to be of, and whether equal cells are dropped."""

    session: str | None = None
    word: str | None = None
    drop_equal: bool = False
    entries: list[Entry] = field(default_factory=list)


@dataclass(frozen=True)
class Turned:
    """What an undo, a redo or an abort answers."""

    steps: int
    keys: list[str]
    skipped: list[tuple[str, str | None, str]]


class SessionModel(Model):
    """One dataset of one organization, with the edit sessions of its users."""

    def __init__(self, contract: Contract, rows: dict[str, Document], clock: Callable[[], datetime.datetime]):
        super().__init__(contract, rows)
        self.clock = clock
        self.sessions: dict[str, Session] = {}
        self.steps: dict[str, list[Step]] = {}  # of each user
        self.committed: dict[tuple[str, str], datetime.datetime] = {}  # (user, key) -> when last
        self.how = How()
        self.planned: list[Change] = []

    # -- sessions -----------------------------------------------------------------------------------------------------

    def status(self, session: Session) -> str:
        """Its state as it is now."""
        over = session.state == "active" and session.expires_at <= self.clock()
        return "expired" if over else session.state

    def open_of(self, user: str, word: str | None) -> Session | None:
        """The open session that a word names."""
        session = self.sessions.get(word or "")
        mine = session is not None and session.user == user and self.status(session) == "active"
        return session if mine else None

    def editable(self, user: str, sid: str) -> Session:
        """A session that can be edited."""
        session = self.sessions.get(sid)
        if session is None or session.user != user:
            raise Refused(404, "SESSION_NOT_FOUND")
        if self.status(session) != "active":
            raise Refused(409, "INVALID_TRANSITION")
        return session

    def elsewhere(self, user: str, key: str, session: str | None) -> bool:
        """Whether the row belongs to another open session of the user."""
        draft = self.of(user).drafts.get(key)
        owner = self.open_of(user, draft.owner) if draft else None
        return owner is not None and owner.id != session

    def begin(self, user: str, sid: str, rows: Sequence[str] | None) -> None:
        """A new session of all rows, or of these."""
        missing = {(key, "ROW_NOT_FOUND") for key in rows or () if not self.known(user, key)}
        if missing:
            raise Refused(422, "VALIDATION_FAILED", missing)
        chosen = None if rows is None else tuple(dict.fromkeys(rows))
        self.sessions[sid] = Session(sid, user, chosen, self.clock() + LIFETIME)

    def known(self, user: str, key: str) -> bool:
        """Whether the mirror has the row, or the user a modification of it."""
        return key in self.mirror or key in self.of(user).drafts or self.pending(user, key) is not None

    def extend(self, user: str, sid: str) -> None:
        """A session gets a day from now."""
        self.editable(user, sid).expires_at = self.clock() + LIFETIME

    def clean_up(self) -> tuple[int, int]:
        """End the sessions whose time is over, and forget those that ended long ago: how many of each."""
        now = self.clock()
        expired = [each for each in self.sessions.values() if each.state == "active" and each.expires_at <= now]
        for session in expired:
            session.state, session.ended_at = "expired", now
            self.release(session)
        old = [each.id for each in self.sessions.values() if each.ended_at is not None and each.ended_at < now - KEPT]
        for sid in old:
            user = self.sessions.pop(sid).user
            self.steps[user] = [step for step in self.steps.get(user, []) if step.session != sid]
        return len(expired), len(old)

    def release(self, session: Session) -> None:
        """Its rows belong to nobody."""
        for draft in self.of(session.user).drafts.values():
            if draft.owner == session.id:
                draft.owner = None

    def abort(self, user: str, sid: str) -> Turned:
        """Undo what is left of a session's steps, and end it."""
        session = self.editable(user, sid)
        session.state, session.ended_at = "aborted", self.clock()
        steps = [step for step in self.steps.get(user, []) if step.session == sid and step.state == "done"]
        turned = self.turn(user, steps, sid, back=True)
        self.release(session)
        for key in session.found.keys() - session.stirred:
            assert self.as_it_was(user, session.found[key], self.of(user).drafts.get(key)), key
        return turned

    def as_it_was(self, user: str, before: Draft | None, after: Draft | None) -> bool:
        """Whether a draft is what it was, and of whom it was; of a session that is over it is no more."""
        if before is None or after is None:
            return before is after
        owner = None if self.is_over(user, before.owner) else before.owner
        return self.same(before, after) and after.owner == owner

    def is_over(self, user: str, word: str | None) -> bool:
        """Whether this is a session of the user that has ended."""
        return word in self.sessions and self.sessions[word].user == user and self.open_of(user, word) is None

    # -- save ---------------------------------------------------------------------------------------------------------

    def save(
        self,
        user: str,
        wanted: Sequence[Document],
        *,
        atomic: bool = False,
        others: Iterable[Fault] = (),
        word: str | None = None,
        partial: str = "rows",
        drop_equal: bool = False,
        group: str | None = None,
    ) -> tuple[set[str], set[Fault]]:
        session = self.open_of(user, word)
        faults = set(others)
        if partial == "cells":
            wanted, bad = self.good_cells(wanted)
            faults |= bad
        misfits = {(request["id"], code) for request in wanted for code in self.misfits(request["id"], request)}
        if atomic and misfits | faults:
            raise Refused(422, "VALIDATION_FAILED", misfits | faults)
        if session is not None and session.rows is not None:
            unfit = {key for key, _ in misfits}
            strange = {one["id"] for one in wanted if one["id"] not in session.rows} - unfit
            faults |= {(key, "ROW_NOT_IN_SESSION") for key in strange}
            wanted = [one for one in wanted if one["id"] not in strange]
        self.how = How(session.id if session else None, word, drop_equal)
        try:
            saved, faults = super().save(user, wanted, atomic=atomic, others=faults)
        except Refused as refused:
            raise self.refusal(refused.faults) from None
        self.note(user, group)
        return saved, faults

    @staticmethod
    def refusal(faults: Iterable[Fault]) -> Refused:
        """Nothing was saved, for these reasons."""
        if {code for _, code in faults} == {"ROW_IN_OTHER_SESSION"}:
            return Refused(409, "ROW_IN_OTHER_SESSION", faults)
        return Refused(422, "VALIDATION_FAILED", faults)

    def good_cells(self, wanted: Sequence[Document]) -> tuple[list[Document], set[Fault]]:
        """Drafts without their bad cells, and what is wrong with those; an update of bad cells alone is none."""
        good, faults = [], set()
        for request in wanted:
            kept = {}
            for name, value in request.get("delta", {}).items():
                codes = self.misfits(request["id"], {"op": request.get("op"), "delta": {name: value}})
                codes = [code for code in codes if request.get("op") != "delete" or code != "INVALID_TYPE"]
                faults |= {(request["id"], code) for code in codes}
                if not codes:
                    kept[name] = value
            whole = kept.keys() == request.get("delta", {}).keys()
            if kept or whole or request.get("unset") or request.get("op", "update") != "update":
                good.append({**request, "delta": kept})
        return good, faults

    def barred(self, user: str, key: str) -> str | None:
        return "ROW_IN_OTHER_SESSION" if self.elsewhere(user, key, self.how.session) else None

    def apply(self, user: str, key: str, request: Document, *, said: bool = False, begun: bool = False) -> str | None:
        drafts, how = self.of(user).drafts, self.how
        before = deepcopy(drafts.get(key))
        if how.drop_equal and request.get("op", "update") == "update" and key in self.mirror:
            pending = self.pending(user, key)
            beneath = {**self.mirror[key], **(pending.delta if pending else {})}
            delta = request.get("delta", {})
            same = [name for name in delta if equal(delta[name], beneath.get(name))]
            request = {**request, "unset": [*request.get("unset", ()), *same]}
        if code := super().apply(user, key, request, said=said, begun=begun):
            return code
        after = drafts.get(key)
        if after is not None:
            after.owner = how.word or (before.owner if before else None)
        how.entries.append(Entry(key, before, deepcopy(after)))
        return None

    def note(self, user: str, group: str | None, *, always: bool = False) -> Step:
        """What was saved is a step; what was undone in the same stream stays so. `always`: also where no draft was."""
        how, steps = self.how, self.steps.setdefault(user, [])
        for step in steps:
            if step.session == how.session and step.state == "undone":
                step.state = "closed"
        entries = [entry for entry in how.entries if entry.before or entry.after]
        noted = Step(how.session, group, self.clock(), entries)
        if entries or always:
            steps.append(noted)
        for entry in entries:
            self.touch(user, entry.key, how.session, entry.before)
        return noted

    def touch(self, user: str, key: str, session: str | None, before: Draft | None) -> None:
        """A session, or somebody outside, changes a draft."""
        self.stir(key, [user], but=session)
        if session is not None:
            self.sessions[session].found.setdefault(key, deepcopy(before))

    def stir(self, key: str, users: Iterable[str], but: str | None = None) -> None:
        """Something happens to drafts of a row that sessions, but for this one, have nothing to do with."""
        for session in self.sessions.values():
            if session.user in users and session.id != but and key in session.found:
                session.stirred.add(key)

    # -- edits --------------------------------------------------------------------------------------------------------

    def edit(self, user: str, sid: str, edits: Sequence[Edit], group: str | None = None) -> list[Document]:
        """Edit cells: a result for each, with status, code and oldValue."""
        session = self.editable(user, sid)
        keys = {key for key, _, _ in edits}
        docs = {key: deepcopy(self.as_shown(user, key)) for key in keys}
        before = {key: deepcopy(self.undrafted(user, key)) for key in keys}
        results: list[Document] = []
        deltas: dict[str, Document] = {}
        for key, name, value in edits:
            code = self.uneditable(user, session, key, name)
            results.append({"id": key, "field": name, "code": code, "oldValue": None})
            if code:
                continue
            results[-1]["oldValue"] = docs[key].get(name)
            if self.storable(name, value):
                docs[key][name] = value
                deltas.setdefault(key, {})[name] = value
        self.how = How(sid, sid, drop_equal=True)
        refused = {key: self.apply(user, key, {"id": key, "delta": delta}) for key, delta in deltas.items()}
        for result in results:
            result["code"] = result["code"] or refused.get(result["id"])
        if all(result["code"] for result in results):
            raise self.refusal({(result["id"], result["code"]) for result in results})
        step = self.note(user, group, always=True)
        self.stamp(user, [key for key, code in refused.items() if code is None])
        for result, (key, name, value) in zip(results, edits, strict=True):
            if result["code"]:
                result["status"] = "refused"
                continue
            broken = {each for _, names in self.breaches(before[key], docs[key]) for each in names}
            wrong = not self.storable(name, value) or self.misfit(name, value) or name in broken
            result["status"] = "kept_invalid" if wrong else "saved"
            session.log.append(Logged(key, name, value, result["oldValue"], result["status"], step))
        return results

    def uneditable(self, user: str, session: Session, key: str, name: str) -> str | None:
        """The code of why a cell cannot be edited at all."""
        declared = self.contract.by_name.get(name)
        if declared is None:
            return "UNKNOWN_FIELD"
        if not declared.editable:
            return "READ_ONLY_FIELD"
        if not self.known(user, key):
            return "ROW_NOT_FOUND"
        if session.rows is not None and key not in session.rows:
            return "ROW_NOT_IN_SESSION"
        if self.elsewhere(user, key, session.id):
            return "ROW_IN_OTHER_SESSION"
        draft, pending = self.of(user).drafts.get(key), self.pending(user, key)
        op = draft.op if draft else pending.op if pending else None
        return "ROW_DELETED" if op == "delete" else None

    def as_shown(self, user: str, key: str) -> Document:
        """The row as its user has it, one that is gone included."""
        found = self.modifications(user).get(key)
        return found["data"] if found else self.mirror.get(key, {})

    def undrafted(self, user: str, key: str) -> Document | None:
        """The row as it lies beneath the user's draft; None for one that is new."""
        pending = self.pending(user, key)
        return lay(self.mirror.get(key), pending.op, pending.delta) if pending else self.mirror.get(key)

    def storable(self, name: str, value: Any) -> bool:
        """Whether a document can hold the value, whatever the rules say of it."""
        declared = self.contract.by_name[name]
        if value is None:
            return True
        if isinstance(value, str) and ("\0" in value or len(value.encode()) > declared.max_length):
            return False
        return typed(declared.type, value) is not None

    def breaches(self, before: Document | None, after: Document | None) -> list[tuple[str, set[str]]]:
        """Those of the rules, and values by themselves that do not fit their fields."""
        found = super().breaches(before, after)
        for name, value in (after or {}).items():
            declared = self.contract.by_name.get(name)
            changed = before is None or not equal(before.get(name), value)
            if declared and declared.type != "text" and changed and (code := self.misfit(name, value)):
                found.append((code, {name}))
        return found

    # -- undo, redo ---------------------------------------------------------------------------------------------------

    def turn_last(self, user: str, sid: str | None, *, back: bool) -> Turned:
        """Undo the last step of a session, or of those outside, or redo the first that is undone; with those beside it
        that have the same undo group.
        """
        if sid is not None:
            self.editable(user, sid)
        wanted = "done" if back else "undone"
        stream = [step for step in self.steps.get(user, []) if step.session == sid and step.state == wanted]
        if not stream:
            raise Refused(409, "NOTHING_TO_UNDO" if back else "NOTHING_TO_REDO")
        if back:
            stream.reverse()
        steps = stream[:1]
        for step in stream[1:]:
            if step.group is None or step.group != steps[0].group:
                break
            steps.append(step)
        return self.turn(user, steps[::-1] if back else steps, sid, back=back)

    def turn(self, user: str, steps: Sequence[Step], sid: str | None, *, back: bool) -> Turned:
        """Put the rows of these steps, in their order, back as they were, or forth again."""
        changed: list[str] = []
        skipped: list[tuple[str, str | None, str]] = []
        for key in sorted({entry.key for step in steps for entry in step.entries}):
            if self.elsewhere(user, key, sid):
                skipped.append((key, None, "ROW_IN_OTHER_SESSION"))
                continue
            entries = [entry for step in steps for entry in step.entries if entry.key == key]
            was = self.of(user).drafts.get(key)
            draft, left = self.turned(was, entries[::-1] if back else entries, back=back)
            if was is None and draft is not None and self.is_gone(user, key, draft):
                skipped.append((key, None, "ROW_DELETED"))
                continue
            if left:
                since = min(step.at for step in steps if any(entry.key == key for entry in step.entries))
                code = self.reason(user, key, since)
                skipped += [(key, name, code) for name in left]
            like = entries[0].before if back else entries[-1].after
            if self.same(was, draft):
                if draft is not None and not left:
                    self.own(user, key, like)
                continue
            changed.append(key)
            self.touch(user, key, sid, was)
            self.put(user, key, draft, like)
        self.stamp(user, changed)
        for step in steps:
            step.state = "undone" if back else "done"
        return Turned(len(steps), changed, skipped)

    def is_gone(self, user: str, key: str, draft: Draft) -> bool:
        """Whether there is nothing to draft on: no row, or for a new one one that is on its way out."""
        leaving = key in self.mirror or self.pending(user, key) is not None
        return self.theirs(user, key) is None and (draft.op != "insert" or leaving)

    def turned(self, was: Draft | None, entries: Sequence[Entry], *, back: bool) -> tuple[Draft | None, Left]:
        """What the draft of a row becomes, and what is left as it is: fields, or None for the row."""
        draft, left = deepcopy(was), Left()
        gone = was is not None and any(conflict["field"] is None for conflict in was.conflicts)
        for entry in entries:
            expected, wanted = (entry.after, entry.before) if back else (entry.before, entry.after)
            draft, names = self.put_back(draft, expected, wanted, gone=gone)
            left |= names
        return draft, left

    def put_back(
        self, draft: Draft | None, expected: Draft | None, wanted: Draft | None, *, gone: bool
    ) -> tuple[Draft | None, Left]:
        """The draft with what a step changed as it is wanted, where it is as it is expected, and what is not."""
        kinds = {kind(expected), kind(wanted)}
        if kinds != {"update"} and kinds != {"insert"}:
            if op_of(draft) == op_of(expected):
                return deepcopy(wanted), set()
            return draft, {None}
        old, new = expected or Draft("update"), wanted or Draft("update")
        now = draft or Draft("update")
        left = Left()
        delta, base = dict(now.delta), dict(now.base)
        for _, members in sorted({self.cell(name) for name in {**old.delta, **new.delta}}):
            touched = [name for name in members if not self.same_cell(old.delta, new.delta, name)]
            rebased = any(not equal(old.base.get(name), new.base.get(name)) for name in members)
            kept = [name for name in members if name in old.delta and name in new.delta and name not in touched]
            looked_at = [*touched, *(kept if rebased else [])]
            if not looked_at:
                continue
            if kind(draft) != kind(expected or wanted) or not all(
                self.same_cell(now.delta, old.delta, name) for name in looked_at
            ):
                left |= set(looked_at)
                continue
            for name in touched:
                delta.pop(name, None)
                delta |= {name: new.delta[name]} if name in new.delta else {}
            for name in members:
                if name in new.base:
                    base[name] = new.base[name]
                elif not gone:
                    base.pop(name, None)
        if kind(draft) == "update" and not delta:
            return None, left
        return Draft(now.op, delta, base, now.conflicts, now.owner), left

    @staticmethod
    def same_cell(one: Document, other: Document, name: str) -> bool:
        """Whether both have the field, with the same value, or neither."""
        return (name in one) == (name in other) and equal(one.get(name), other.get(name))

    def same(self, one: Draft | None, other: Draft | None) -> bool:
        """Whether two drafts are the same: op, values, and the base of what they touch."""
        if one is None or other is None:
            return one is other
        kept = self.touched(one.delta) if one.op == "update" else [*one.base, *other.base]
        return (
            one.op == other.op
            and equal(one.delta, other.delta)
            and all(equal(one.base.get(name), other.base.get(name)) for name in kept)
        )

    def put(self, user: str, key: str, draft: Draft | None, like: Draft | None) -> None:
        """The draft becomes this one, of whoever it was of."""
        drafts = self.of(user).drafts
        drafts.pop(key, None)
        if draft is None or (draft.op == "delete" and self.theirs(user, key) is None):
            return  # whoever deletes what is gone agrees
        drafts[key] = draft
        self.own(user, key, like)
        self.look(user, key)

    def own(self, user: str, key: str, like: Draft | None) -> None:
        """The draft belongs to whom this one belonged to, if that session is not over."""
        owner = like.owner if like else None
        self.of(user).drafts[key].owner = None if self.is_over(user, owner) else owner

    def reason(self, user: str, key: str, since: datetime.datetime) -> str:
        """Why something of a row cannot be put back."""
        at, pending = self.committed.get((user, key)), self.pending(user, key)
        if at is None or at < since:
            return "CHANGED_SINCE"
        return "IN_REVIEW" if pending and pending.state == "in_review" else "COMMITTED"

    # -- commit, discard ----------------------------------------------------------------------------------------------

    def among(self, user: str, keys: Sequence[str] | None, word: str | None) -> tuple[str, ...] | None:
        """The rows that a commit or a discard is about, which belong to no open session that it does not name."""
        drafts, session = self.of(user).drafts, self.open_of(user, word)
        if word is not None:
            keys = [key for key, draft in drafts.items() if draft.owner == word]
        chosen = [key for key in drafts if keys is None or key in keys]
        named = session.id if session else None
        barred = {(key, "ROW_IN_OTHER_SESSION") for key in chosen if self.elsewhere(user, key, named)}
        if barred:
            raise Refused(409, "ROW_IN_OTHER_SESSION", barred)
        return None if keys is None else tuple(keys)

    def commit(
        self,
        user: str,
        keys: Sequence[str] | None = None,
        *,
        expected: dict[str, int] | None = None,
        resolutions: Sequence[Document] = (),
        dry_run: bool = False,
        skip: bool = False,
        word: str | None = None,
    ) -> int:
        session, keys = self.open_of(user, word), self.among(user, keys, word)
        chosen = [key for key in self.of(user).drafts if keys is None or key in keys]
        done = super().commit(user, keys, expected=expected, resolutions=resolutions, dry_run=dry_run, skip=skip)
        if not dry_run:
            self.committed |= {(user, change.key): self.clock() for change in self.planned}
            for key in chosen:
                self.stir(key, [user])
            for step in self.steps.get(user, []):
                if session is not None and step.session == session.id:
                    step.state = "closed"
        return done

    def plan(self, user: str, chosen: Iterable[str], *, skip: bool = False) -> list[Change]:
        self.planned = super().plan(user, chosen, skip=skip)
        return self.planned

    def reach_mirror(self, change: Change) -> None:
        self.stir(change.key, self.workspaces)
        super().reach_mirror(change)

    def discard(
        self, user: str, keys: Sequence[str] | None = None, fields: Sequence[str] = (), *, word: str | None = None
    ) -> int:
        keys = self.among(user, keys, word)
        for key in self.of(user).drafts:
            if keys is None or key in keys:
                self.stir(key, [user])
        return super().discard(user, keys, fields)

    # -- what is shown ------------------------------------------------------------------------------------------------

    def modifications(self, user: str) -> dict[str, Document]:
        found, drafts = super().modifications(user), self.of(user).drafts
        return {key: {**row, "sessionId": drafts[key].owner if key in drafts else None} for key, row in found.items()}


def op_of(draft: Draft | None) -> str | None:
    """What is drafted, None for nothing."""
    return draft.op if draft else None


def kind(draft: Draft | None) -> str:
    """What is drafted, where nothing counts as an update of no cell."""
    return draft.op if draft else "update"
