"""What could be joined: pairs of fields of two datasets, and how much speaks for each."""

import math
from collections.abc import Iterable, Sequence
from itertools import product

import msgspec

from app.contracts import Contract
from app.contracts.rules import unique_rules
from app.engine.datasets import base_of
from app.engine.desk import Desk
from app.joins.confidence import Evidence, confidence_of, interval, markdowns, risk_of
from app.joins.names import is_reference, likeness
from app.joins.sampling import SAMPLE, Fields, Probe, Profile, probe, profile, thinned
from app.joins.texts import NUMBERS, can_join, compatible, has_index, is_id
from app.joins.wire import Candidate, FanOut, JoinEnd, JoinInterval, JoinStatistics

MOST_PARENTS = 8  # of a dataset: its key, fields with a rule `unique`, and those that look unique
FEWEST = 10  # values of a field that nobody declared unique: fewer differ by chance
LOOKS_UNIQUE = frozenset({"text", "enum", "integer"})
LEAST = 0.3  # of the values: with fewer it is no candidate
MOST_CANDIDATES = 50
CHOICES, MOST_COMBINED = 3, 16  # fields for each of a composite key, by their names; and combinations of them
DENSE = 0.1  # of the numbers between the smallest and the largest: those of a parent that counts

MERGED = "Measured of the mirror, without what people have drafted: a query joins merged values."


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of a child, and of its parent, by their places."""

    child_fields: Fields
    parent_fields: Fields


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that may tell the rows of a dataset apart. `why`: that they do, in words; `declared`: by the contract."""

    fields: Fields
    declared: bool
    why: str


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that is looked at, where it is read, and what its sample has."""

    desk: Desk
    profile: Profile

    @property
    def contract(self) -> Contract:
        """Its contract."""
        return self.desk.contract

    @property
    def name(self) -> str:
        """The dataset's name, without a version."""
        return base_of(self.contract.name)

    def counts(self, field: str) -> bool:
        """Whether the field's numbers lie so close that any small one is among them."""
        values = self.profile.fields.get(field)
        if values is None or values.smallest is None or values.largest is None:
            return False
        span = values.largest - values.smallest + 1
        rows = self.profile.extent.rows
        return bool(rows >= DENSE * float(span))


async def find_candidates(left: Desk, right: Desk) -> list[tuple[Pair, Candidate]]:
    """All that could be joined between two datasets, either way, the most certain first; of one with itself, too."""
    one = Side(desk=left, profile=await profile(left))
    ways = [(one, one)]
    if left.contract.name != right.contract.name:
        other = Side(desk=right, profile=await profile(right))
        ways = [(one, other), (other, one)]
    found = [each for child, parent in ways for each in await _of_way(child, parent)]
    found.sort(key=lambda each: (-each[1].confidence, each[1].condition))
    return found[:MOST_CANDIDATES]


async def _of_way(child: Side, parent: Side) -> list[tuple[Pair, Candidate]]:
    found = []
    if child.profile.rows and parent.profile.rows:
        for each in parents_of(parent):
            pairs = _pairs(child, parent, each)
            for pair, probed in await _probed(child, parent, each, pairs):
                if probed.repeated and not each.declared:
                    continue  # it only looked unique
                if probed.found >= LEAST * probed.different:
                    found.append((pair, judged(child, parent, each, pair, probed)))
    return found


def parents_of(side: Side) -> list[Parent]:
    """What can be a parent's: the key, fields with a rule, and those without two equal values in the sample."""
    contract, found = side.contract, []
    if is_id(contract, contract.key_fields):
        found.append(Parent(fields=contract.key_fields, declared=True, why="its key"))
    ruled = [rule.field for rule in unique_rules(contract)]
    found += [Parent(fields=(name,), declared=True, why="unique by a rule") for name in ruled]
    known = {each.fields for each in found}
    found += [
        Parent(fields=(name,), declared=False, why="unique as far as was seen")
        for name, values in side.profile.fields.items()
        if contract.types[name] in LOOKS_UNIQUE
        and values.filled == values.different >= FEWEST
        and can_be_probed(side, (name,))
        and (name,) not in known
    ]
    unique = {each.fields: each for each in reversed(found)}
    return [unique[each] for each in dict.fromkeys(each.fields for each in found)][:MOST_PARENTS]


def can_be_probed(side: Side, fields: Fields) -> bool:
    """Whether a value is found there without reading everything, or everything is little."""
    contract = side.contract
    return is_id(contract, fields) or (
        len(fields) == 1 and (has_index(contract, fields[0]) or side.profile.extent.whole)
    )


def _pairs(child: Side, parent: Side, to: Parent) -> list[Pair]:
    """What may hold the parent's values."""
    choices = [_choices(child, parent, name) for name in to.fields]
    if len(choices) == 1:
        return [Pair(child_fields=(name,), parent_fields=to.fields) for name in choices[0]]
    own = child.contract.name == parent.contract.name
    combined = [
        each for each in product(*(names[:CHOICES] for names in choices))
        if len({*each}) == len(each) and not (own and {*each} & {*to.fields} == {*to.fields})
    ]  # fmt: skip
    combined.sort(key=lambda each: -_names(child, parent, Pair(child_fields=each, parent_fields=to.fields)))
    return [Pair(child_fields=each, parent_fields=to.fields) for each in combined[:MOST_COMBINED]]


def _choices(child: Side, parent: Side, name: str) -> list[str]:
    """The child's fields for one of the parent's, the most alike by name first."""
    own, field = child.contract.name == parent.contract.name, parent.contract.by_name[name]
    names = [
        each
        for each, values in child.profile.fields.items()
        if values.different and compatible(child.contract.by_name[each], field) and not (own and each == name)
    ]
    return sorted(names, key=lambda each: -likeness(child.contract, each, parent.contract, name))


async def _probed(child: Side, parent: Side, to: Parent, pairs: Sequence[Pair]) -> list[tuple[Pair, Probe]]:
    """The pairs of which the child has values, with what became of these; hopeless ones are only glanced at."""
    extent = child.profile.extent
    one_in = thinned(min(extent.rows, SAMPLE))
    if one_in > 1:
        glanced = await _probe(child, parent, to, pairs, one_in)
        pairs = [pair for pair, found in glanced if interval(found.found, found.different)[1] >= LEAST]
    return await _probe(child, parent, to, pairs, 1)


async def _probe(child: Side, parent: Side, to: Parent, pairs: Sequence[Pair], one_in: int) -> list[tuple[Pair, Probe]]:
    if not pairs:
        return []
    sets = [pair.child_fields for pair in pairs]
    found = await probe(child.desk, child.profile.extent, sets, parent.desk, to.fields, one_in)
    return [(pair, each) for pair, each in zip(pairs, found, strict=True) if each is not None and each.different]


# -- a candidate as it is told -----------------------------------------------------------------------------------------


def judged(child: Side, parent: Side, to: Parent, pair: Pair, probed: Probe) -> Candidate:
    """The candidate, with what speaks for it and against it. Its id, and whether it is accepted, is not known here."""
    evidence = _evidence(child, parent, to, pair, probed)
    confidence = confidence_of(evidence)
    share = _inclusion(probed)
    low, high = (share, share) if child.profile.extent.whole else interval(probed.found, probed.different)
    statistics = _statistics(child, parent, to, probed)
    kept = share == 1 and statistics.null_share == 0
    return Candidate(
        candidate_id="",
        child=JoinEnd(dataset=child.name, fields=pair.child_fields),
        parent=JoinEnd(dataset=parent.name, fields=pair.parent_fields),
        join_type="inner" if kept else "left",
        condition=condition_of(child.name, pair.child_fields, parent.name, pair.parent_fields),
        confidence=confidence,
        interval=JoinInterval(low=low, high=high),
        risk=risk_of(confidence),
        reason=_reason(child, parent, to, pair, probed, evidence),
        assumptions=_assumptions(child, parent, to, probed),
        statistics=statistics,
        accepted=None,
    )


def condition_of(child: str, child_fields: Iterable[str], parent: str, parent_fields: Iterable[str]) -> str:
    """`orders.customerId = customers.id`."""
    both = zip(child_fields, parent_fields, strict=True)
    return " AND ".join(f"{child}.{one} = {parent}.{other}" for one, other in both)


def _evidence(child: Side, parent: Side, to: Parent, pair: Pair, probed: Probe) -> Evidence:
    types = child.contract.types, parent.contract.types
    both = list(zip(pair.child_fields, to.fields, strict=True))
    alone = len(both) == 1
    numbers = alone and {types[0][both[0][0]], types[1][both[0][1]]} <= NUMBERS
    own = child.contract.name == parent.contract.name
    return Evidence(
        found=probed.found,
        looked=probed.different,
        names=_names(child, parent, pair),
        declared=to.declared,
        repeated=bool(probed.repeated),
        same_type=all(types[0][one] == types[1][other] for one, other in both),
        different=probed.different,
        sequential=numbers and parent.counts(to.fields[0]),
        own_reference=own and alone and is_reference(both[0][0]),
    )


def _names(child: Side, parent: Side, pair: Pair) -> float:
    both = zip(pair.child_fields, pair.parent_fields, strict=True)
    found = [likeness(child.contract, one, parent.contract, other) for one, other in both]
    return round(sum(found) / len(found), 4)


def _inclusion(probed: Probe) -> float:
    return round(probed.found / probed.different, 4)


def _statistics(child: Side, parent: Side, to: Parent, probed: Probe) -> JoinStatistics:
    rows, parents = child.profile.extent.rows, parent.profile.extent.rows
    scale = 1.0 if child.profile.extent.whole else rows / probed.rows
    average = round(probed.matched * scale / parents, 2)
    greatest = probed.greatest
    if scale > 1:
        greatest = round(greatest * scale) if greatest > 1 else max(greatest, math.ceil(average))
    return JoinStatistics(
        sampled_rows=probed.rows,
        distinct_values=probed.different,
        inclusion=_inclusion(probed),
        null_share=round(1 - probed.filled / probed.rows, 4),
        parent_unique=not probed.repeated,
        parent_rows=parents,
        child_rows=rows,
        fan_out=FanOut(average=average, greatest=greatest),
        cardinality="one_to_one" if greatest <= 1 else "many_to_one",
    )


def _reason(child: Side, parent: Side, to: Parent, pair: Pair, probed: Probe, evidence: Evidence) -> str:
    whose, where = _told(child.name, pair.child_fields), _told(parent.name, to.fields)
    told = (
        f"{probed.found:,} of {probed.different:,} values of {whose} are in {where}, {to.why}; "
        f"the names are alike by {evidence.names:.2f}."
    )
    against = [why for _, why in markdowns(evidence)]
    return f"{told} Marked down: {'; '.join(against)}." if against else told


def _told(dataset: str, fields: Fields) -> str:
    return f"{dataset}.{fields[0]}" if len(fields) == 1 else f"{dataset}.({', '.join(fields)})"


def _assumptions(child: Side, parent: Side, to: Parent, probed: Probe) -> list[str]:
    found = [MERGED]
    extent = child.profile.extent
    if not extent.whole:
        which = "the first by their ids" if extent.percent is None else "from random pages of the table"
        found.append(f"{probed.rows:,} of about {extent.rows:,} rows of {child.name} stand for all of them: {which}.")
    if not to.declared:
        found.append(f"Nobody declared that {_told(parent.name, to.fields)} is unique.")
    if sum(map(can_join, child.contract.fields)) > len(child.profile.fields):
        found.append(f"Only the first {len(child.profile.fields)} fields of {child.name} were looked at.")
    return found
