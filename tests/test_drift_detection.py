"""What is told of a batch that has drifted: what was changed, and nothing else. No database."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contracts import Contract
from app.contracts.comparison import BREAKING, COMPATIBLE, Change, Kind, compare
from app.contracts.field_ids import with_ids
from app.contracts.registration import read_registration
from app.drift.batch import Known
from app.drift.detection import Drift, Found, Source, detect, is_suspect
from app.drift.evolution import Step, Unevolved, evolved
from app.drift.health import health_of
from app.drift.names import alike
from app.drift.records import batch_of, with_keys
from app.records.names import field_names
from tests.support.own import SEMANTICS
from tests.test_model import examples

Record = dict[str, Any]
Told = tuple[str, str, str | None, str | None, Any]  # kind, field, from, to, what it would have to be

TYPES = ("text", "enum", "number", "integer", "boolean", "date", "datetime")
# Names of fields, of columns that come anew, and of columns that are fields under another name: none is like another.
NAMES = "plate vendor weekday ratio mileage leased built checked".split()
MORE = "zone brand humidity quota insured joined toured".split()
NEW = ["gasket", "Ünïcode!", "9 lives", 'don"t', "id", "x" * 300, "\U0001f600"]
RENAMED = ["Hxq", "ojfw", "Kyv 7", "uwpz", "Lbnc", "Qumk", "Dgtr", "svfo"]
WORDS = ["amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath"]
VALUES = WORDS[:4]
LIMITS = {"minimum": 0, "maximum": 10_000}


# -- contracts, and rows that fit them ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A contract, the rows that are there, and the records that come; `columns`: field -> what its column is called."""

    contract: Contract
    rows: list[Record]
    columns: dict[str, str]
    never: frozenset[str] = frozenset()
    textual: bool = False
    records: list[Record] = field(default_factory=list)

    def sent(self) -> list[Record]:
        """The rows as they are sent where nothing has drifted."""
        return [{self.columns[name]: value for name, value in row.items()} for row in self.rows]

    def detected(self, records: Sequence[Record], source: Source = Source.SAMPLE) -> Drift:
        """What is found in records."""
        records = [written(each) for each in records] if self.textual else records
        batch = with_keys(self.contract, batch_of(self.contract, records, textual=self.textual))
        there = {row["serial"]: row for row in self.rows}
        known = Known({key: there[key] for key in batch.keys if key is not None and key in there}, self.rows)
        return detect(self.contract, batch, known, source)


def written(record: Record) -> Record:
    """A record as CSV has it."""
    texts: dict[Any, str] = {None: "", True: "true", False: "false"}
    return {
        name: texts[value] if value is None or isinstance(value, bool) else str(value) for name, value in record.items()
    }


def contract_of(fields: Sequence[dict[str, Any]], **more: Any) -> Contract:
    document = {
        "name": "things",
        "version": "1.0",
        "title": "Things",
        "key": "serial",
        "fields": [{"name": "serial", "type": "text", "editable": False}, *fields],
        "ingestion": SEMANTICS | {"idempotencyKey": ["serial"]},
    } | more
    return with_ids(read_registration(document, schema="own_0"), None, highest=0)


def of_type(kind: str, name: str, **more: Any) -> dict[str, Any]:
    said: dict[str, dict[str, Any]] = {
        "text": {"maxLength": 40},
        "enum": {"values": VALUES},
        "number": LIMITS | {"scale": 2},
        "integer": LIMITS,
    }
    return {"name": name, "type": kind} | said.get(kind, {}) | more


def value_of(kind: str, draw: random.Random) -> Any:
    """A value that fits a field of the type; two are seldom the same but of an enum and a boolean."""
    match kind:
        case "text":
            return f"{draw.choice(WORDS)} {draw.randrange(10**6)}"
        case "enum":
            return draw.choice(VALUES)
        case "number":
            return Decimal(draw.randrange(1, 10**6)) / 100
        case "integer":
            return draw.randrange(10_000)
        case "boolean":
            return draw.random() < 0.5
        case "date":
            return f"{draw.randrange(1990, 2030)}-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02}"
    return f"{value_of('date', draw)}T{draw.randrange(24):02}:{draw.randrange(60):02}:{draw.randrange(60):02}Z"


@st.composite
def cases(draw: Any) -> Case:
    """Fields of all seven types, some twice, some with a label; columns may have gaps, one no value at all."""
    fields = [of_type(kind, name) for kind, name in zip(TYPES, NAMES, strict=False)]
    fields += [of_type(kind, MORE[TYPES.index(kind)]) for kind in draw(st.lists(st.sampled_from(TYPES), unique=True))]
    labels = draw(st.lists(st.sampled_from([each["name"] for each in fields]), unique=True, max_size=3))
    fields = [
        each | ({"label": f"{each['name'].upper()} (label)"} if each["name"] in labels else {}) for each in fields
    ]
    order = draw(st.permutations(fields))
    contract = contract_of(order)
    chance = random.Random(draw(st.integers(0, 2**32)))
    gaps = draw(st.lists(st.sampled_from([each["name"] for each in fields]), unique=True, max_size=4))
    never = draw(st.lists(st.sampled_from([each["name"] for each in fields]), unique=True, max_size=1))
    rows = []
    for number in range(draw(st.integers(40, 60))):
        row = {each.name: value_of(each.type, chance) for each in contract.fields} | {"serial": f"S-{number}"}
        empty = [name for name in gaps if chance.random() < 0.25] + never
        rows.append(row | dict.fromkeys(empty))
    columns = {each.name: each.label or each.name for each in contract.fields}
    return Case(contract, rows, columns, frozenset(never), draw(st.booleans()))


# -- what is done to what is sent --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutation:
    """Something that is done to a column: `change` maps its values, those that are there; `told`: what has to be told
    of it. `rename`: what it is called then, "" where it does not come.
    """

    field: str
    told: tuple[Told, ...]
    change: Callable[[int, Any], Any] = lambda _, value: value
    rename: str | None = None


def removed(case: Case, name: str) -> Mutation:
    """A column of which no row has a value is not missed in a sample."""
    column = case.columns[name]
    told = () if name in case.never else (("REMOVE", name, column, None, None),)
    return Mutation(name, told, rename="")


def renamed(case: Case, name: str, to: str) -> Mutation:
    """A column without values is one that is not missed, and another one that is new."""
    told: Told = ("RENAME", name, case.columns[name], to, to)
    if name in case.never:
        told = ("ADD", to, None, to, "text")
    return Mutation(name, (told,), rename=to)


# Type -> what its values can be taken for; of a text in CSV, nothing can.
OTHERS: dict[str, tuple[str, ...]] = {
    "text": ("integer", "number", "boolean"),
    "enum": ("integer", "number", "date", "text"),
    "number": ("text", "boolean", "date", "datetime"),
    "integer": ("text", "boolean", "date", "datetime"),
    "boolean": ("text", "number", "date"),
    "date": ("text", "integer", "boolean", "datetime"),
    "datetime": ("text", "number", "boolean", "date"),
}


def of_another_type(case: Case, name: str, to: str) -> Mutation:
    chance = random.Random(name)
    return Mutation(name, misfit(case, name, "TYPE_CHANGE", to), lambda _, value: value_of(to, chance))


def of_long_texts(case: Case, name: str) -> Mutation:
    told = misfit(case, name, "TYPE_CHANGE", "text") + misfit(case, name, "LIMIT_CHANGE", 2000)
    return Mutation(name, told, lambda place, _: f"{place} {'so long ' * 100}")


def renamed_and_retyped(case: Case, name: str, to: str) -> Mutation:
    """Nothing is left by which the field could be known: one is gone, and another one is new."""
    chance, column = random.Random(name), case.columns[name]
    other = "boolean" if case.contract.types[name] in ("text", "enum", "integer", "number") else "integer"
    told: tuple[Told, ...] = (("REMOVE", name, column, None, None), ("ADD", to, None, to, other))
    if name in case.never:
        told = (("ADD", to, None, to, "text"),)
    return Mutation(name, told, lambda _, value: value_of(other, chance), rename=to)


def with_fractions(case: Case, name: str) -> Mutation:
    return Mutation(name, misfit(case, name, "TYPE_CHANGE", "number"), lambda _, value: value // 2 + Decimal("0.5"))


def with_new_values(case: Case, name: str, values: Sequence[str]) -> Mutation:
    told = misfit(case, name, "VALUES_CHANGE", [*VALUES, *sorted(values)])
    return Mutation(name, told, lambda place, value: values[place % len(values)])


def longer(case: Case, name: str) -> Mutation:
    return Mutation(name, misfit(case, name, "LIMIT_CHANGE", 500), lambda place, value: f"{value} {'é' * (20 + place)}")


def beyond(case: Case, name: str, members: Sequence[str]) -> Mutation:
    """Numbers that are too small, too large, or have more digits, each in rows of its own."""
    odd = {"minimum": -17, "maximum": 70_001, "scale": Decimal("1.2345")}
    new = {"minimum": -17, "maximum": 70_001, "scale": 4}
    told = tuple(each for member in members for each in misfit(case, name, "LIMIT_CHANGE", new[member]))
    return Mutation(name, told, lambda place, value: odd[members[place % len(members)]])


def misfit(case: Case, name: str, kind: str, new: Any) -> tuple[Told, ...]:
    """Nothing is told of a column without values."""
    column = case.columns[name]
    return () if name in case.never else ((kind, name, column, column, new),)


def swapped(case: Case, one: str, other: str) -> list[Mutation]:
    """Two columns of one type, whose values tell them apart."""
    first, second = case.columns[one], case.columns[other]
    return [
        Mutation(one, (("RENAME", one, first, second, second),), rename=second),
        Mutation(other, (("RENAME", other, second, first, first),), rename=first),
    ]


def displaced(case: Case, one: str, other: str, to: str) -> list[Mutation]:
    """A column is called as another one was, which has a new name, or none where it does not come."""
    first, second = case.columns[one], case.columns[other]
    gone: Told = ("RENAME", other, second, to, to) if to else ("REMOVE", other, second, None, None)
    return [
        Mutation(one, (("RENAME", one, first, second, second),), rename=second),
        Mutation(other, (gone,), rename=to),
    ]


def turned(case: Case, names: Sequence[str]) -> list[Mutation]:
    """Columns whose names went round."""
    columns = [case.columns[name] for name in names]
    pairs = zip(names, columns, [*columns[1:], columns[0]], strict=True)
    return [Mutation(name, (("RENAME", name, was, now, now),), rename=now) for name, was, now in pairs]


def swappable(case: Case, free: Sequence[str]) -> list[tuple[str, str]]:
    """Of booleans, of columns without values, and where most rows say the same, nobody can tell."""
    types = case.contract.types
    return [
        (one, other)
        for place, one in enumerate(free)
        for other in free[place + 1 :]
        if types[one] == types[other] != "boolean" and not {one, other} & case.never
    ]


@st.composite
def mutations(draw: Any, case: Case) -> list[Mutation]:
    """At most one of each field but the key, and columns that change places."""
    free = [each.name for each in case.contract.fields if each.name != "serial"]
    found: list[Mutation] = []
    names = iter(draw(st.permutations(RENAMED)))
    told = [name for name in draw(st.permutations(free)) if name not in case.never]
    sure = [name for name in told if case.contract.types[name] != "boolean"]
    match draw(st.sampled_from(["nothing", "swapped", "displaced", "turned"])):
        case "swapped" if pairs := swappable(case, free):
            found += swapped(case, *draw(st.sampled_from(pairs)))
        case "displaced":
            other = next(name for name in told if name != sure[0])
            found += displaced(case, sure[0], other, draw(st.sampled_from(["", next(names)])))
        case "turned":
            found += turned(case, sure[:3])
    free = [name for name in free if name not in {each.field for each in found}]
    for name in draw(st.lists(st.sampled_from(free), unique=True, max_size=6)):
        found.append(draw(st.sampled_from(possible(case, name, next(names)))))
    return found


def possible(case: Case, name: str, another: str) -> list[Mutation]:
    kind = case.contract.types[name]
    found = [removed(case, name), renamed(case, name, another)]
    if not (case.textual and kind == "text"):
        found += [of_another_type(case, name, to) for to in OTHERS[kind]]
        found += [of_long_texts(case, name)] if kind != "text" else []
        found += [renamed_and_retyped(case, name, another)] if not case.textual or kind != "enum" else []
    if kind == "integer":
        found += [with_fractions(case, name), beyond(case, name, ["minimum"]), beyond(case, name, ["maximum"])]
        found.append(beyond(case, name, ["minimum", "maximum"]))
    if kind == "number":
        limits = [["minimum"], ["maximum"], ["scale"], ["minimum", "maximum"], ["minimum", "maximum", "scale"]]
        found += [beyond(case, name, members) for members in limits]
    if kind == "enum":
        found += [with_new_values(case, name, WORDS[4:5]), with_new_values(case, name, WORDS[5:8])]
    if kind == "text":
        found.append(longer(case, name))
    return found


def new_columns(case: Case, columns: Sequence[tuple[str, str]], chance: random.Random) -> list[Record]:
    """Members that nobody knows, by column and type, with values that no field has."""
    return [{name: added_value(kind, chance) for name, kind in columns} for _ in case.rows]


def added_value(kind: str, chance: random.Random) -> Any:
    match kind:
        case "text":
            return f"new {chance.randrange(10**6)}"
        case "integer":
            return 20_000 + chance.randrange(10_000)
        case "number":
            return Decimal(20_000) + Decimal(chance.randrange(1, 99)) / 100
        case "date":
            return f"2{chance.randrange(200, 999)}-01-01"
        case "datetime":
            return f"2{chance.randrange(200, 999)}-01-01T00:00:00Z"
    return chance.random() < 0.5


def applied(case: Case, changes: Sequence[Mutation]) -> list[Record]:
    by_field = {each.field: each for each in changes}
    records = []
    for place, row in enumerate(case.rows):
        record = {}
        for name, value in row.items():
            change = by_field.get(name, Mutation(name, ()))
            column = case.columns[name] if change.rename is None else change.rename
            if column:
                record[column] = None if value is None else change.change(place, value)
        records.append(record)
    return records


def told_of(drift: Drift) -> list[Told]:
    return sorted(map(as_told, drift.changes), key=repr)


def as_told(found: Found) -> Told:
    change = found.change
    new = change.new["type"] if change.kind is Kind.ADD else change.new
    return str(change.kind), found.field or "", found.was, found.now, list(new) if isinstance(new, tuple) else new


ADDED = st.lists(
    st.tuples(st.sampled_from(NEW), st.sampled_from(["text", "integer", "number", "date", "datetime", "boolean"])),
    unique_by=lambda each: each[0],
    max_size=3,
)


@st.composite
def drifts(draw: Any) -> tuple[Case, list[Told]]:
    """A case with what comes, and what has to be told of it."""
    case = draw(cases())
    changes = draw(mutations(case))
    columns = draw(ADDED)
    cells = new_columns(case, columns, random.Random(draw(st.integers(0, 2**32))))
    records = [record | more for record, more in zip(applied(case, changes), cells, strict=True)]
    kinds = dict(columns) | {each[3]: each[4] for change in changes for each in change.told if each[0] == "ADD"}
    order = [column for column in records[0] if column in kinds]
    names = field_names([*case.contract.by_name, *order])
    told = [each for change in changes for each in change.told if each[0] != "ADD"]
    told += [("ADD", names[name], None, name, kinds[name]) for name in order]
    return replace(case, records=records), sorted(told, key=repr)


def step_of(found: Found) -> Step:
    change = found.change
    return Step(kind=change.kind, path=change.path, field=found.field or "", old=change.old, new=change.new)


def evolve(case: Case, drift: Drift) -> Contract:
    """The contract of the next version, once all is accepted."""
    steps = [step_of(each) for each in drift.changes]
    numbers = {"name": "things", "version": "1.1" if drift.severity is COMPATIBLE else "2.0"}
    return read_registration(evolved(case.contract, steps) | numbers, schema="own_0")


def kinds_of(changes: Sequence[Change]) -> list[tuple[str, int | None]]:
    """The kinds of changes of fields. The limits of another type are other ones, and a new name brings its label."""
    retyped = {each.field_id for each in changes if each.kind is Kind.TYPE_CHANGE and each.severity is BREAKING}
    return sorted(
        (str(each.kind), each.field_id if each.kind is not Kind.ADD else None)
        for each in changes
        if each.path.startswith("fields[")
        and each.kind is not Kind.CHANGE
        and not (each.kind is Kind.LIMIT_CHANGE and each.field_id in retyped)
    )


def test_no_two_names_are_alike() -> None:
    """So that values alone tell what was renamed."""
    names = [*NAMES, *MORE, "serial", *NEW[:5], *RENAMED]
    assert [(one, other) for one in names for other in names if one < other and alike(one, other) > 0.65] == []


@given(drifts())
@examples(300)
def test_what_is_told_is_what_was_changed(drift: tuple[Case, list[Told]]) -> None:
    case, told = drift
    assert told_of(case.detected(case.records)) == told


@given(drifts())
@examples(150)
def test_the_next_contract_registers_says_the_same_and_fits_what_came(drift: tuple[Case, list[Told]]) -> None:
    case, _ = drift
    found = case.detected(case.records)
    following = evolve(case, found)
    comparison = compare(case.contract, with_ids(following, case.contract, highest=len(case.contract.fields)))
    assert kinds_of(comparison.changes) == kinds_of([each.change for each in found.changes])
    assert comparison.severity == found.severity
    names = {each.id: each.name for each in following.fields if each.id is not None}
    now = {each.name: names.get(each.id or 0, "") for each in case.contract.fields}
    rows = [{now[name]: value for name, value in row.items()} for row in case.rows]
    assert told_of(replace(case, contract=following, rows=rows).detected(case.records)) == []


# -- one by one --------------------------------------------------------------------------------------------------------


def plain(*fields: dict[str, Any], count: int = 40) -> Case:
    """Rows of a text, a number and a day; without gaps."""
    contract = contract_of(fields or [of_type(kind, name) for kind, name in zip(TYPES, NAMES, strict=False)])
    chance = random.Random(5)
    rows = [
        {each.name: value_of(each.type, chance) for each in contract.fields} | {"serial": f"S-{number}"}
        for number in range(count)
    ]
    return Case(contract, rows, {each.name: each.label or each.name for each in contract.fields})


def changed(case: Case, count: int, **values: Any) -> list[Record]:
    """What is sent, with these values in the first records."""
    return [record | (values if place < count else {}) for place, record in enumerate(case.sent())]


def without(record: Record, *names: str) -> Record:
    return {name: value for name, value in record.items() if name not in names}


@pytest.mark.parametrize("source", [Source.INGEST, Source.PULL])
@pytest.mark.parametrize(
    ("values", "enough", "kind"),
    [
        ({"plate": "x" * 41}, 10, "LIMIT_CHANGE"),
        ({"vendor": "fjord"}, 10, "VALUES_CHANGE"),
        ({"weekday": 70_000}, 10, "LIMIT_CHANGE"),
        ({"ratio": Decimal("0.5")}, 10, "TYPE_CHANGE"),
        ({"ratio": "a lot"}, 30, "TYPE_CHANGE"),
        ({"leased": True}, 30, "TYPE_CHANGE"),
    ],
)
def test_what_widens_is_told_of_a_tenth_and_what_breaks_of_half_and_more(
    source: Source, values: Record, enough: int, kind: str
) -> None:
    """Of values of another type most have to be of it, and never is it told of fewer than ten."""
    few, many = plain(), plain(count=100)
    assert [each[0] for each in told_of(few.detected(changed(few, max(enough, 21), **values), source))] == [kind]
    assert told_of(few.detected(changed(few, 9, **values), source)) == []
    assert [each[0] for each in told_of(few.detected(changed(few, 1, **values)))] in ([kind], [])
    share = 10 if enough == 10 else 51
    assert [each[0] for each in told_of(many.detected(changed(many, share, **values), source))] == [kind]
    assert told_of(many.detected(changed(many, share - 2, **values), source)) == []


def test_records_that_are_sent_may_leave_columns_out_and_a_pull_may_not() -> None:
    case = plain()
    records = [without(each, "weekday", "built") for each in case.sent()]
    assert told_of(case.detected(records, Source.INGEST)) == []
    assert [each[:2] for each in told_of(case.detected(records, Source.PULL))] == [
        ("REMOVE", "built"), ("REMOVE", "weekday"),
    ]  # fmt: skip
    assert [each[:2] for each in told_of(case.detected(records))] == [("REMOVE", "built"), ("REMOVE", "weekday")]


def test_a_pull_misses_a_column_though_no_row_has_a_value_in_it() -> None:
    case = plain()
    case = replace(case, rows=[row | {"built": None} for row in case.rows])
    records = [without(each, "built") for each in case.sent()]
    assert told_of(case.detected(records)) == []
    assert [each[:2] for each in told_of(case.detected(records, Source.PULL))] == [("REMOVE", "built")]


@pytest.mark.parametrize("source", [Source.SAMPLE, Source.INGEST, Source.PULL])
def test_nothing_has_drifted_where_nothing_was_changed(source: Source) -> None:
    case = plain()
    assert told_of(case.detected(case.sent(), source)) == []
    batch = batch_of(case.contract, case.sent(), textual=False)
    assert is_suspect(case.contract, batch, source) is (source is Source.SAMPLE)


@pytest.mark.parametrize("source", [Source.INGEST, Source.PULL])
def test_what_is_told_is_looked_for(source: Source) -> None:
    """Whatever is told of records or of a pull was suspicious before a row was read."""
    case = plain()
    for records in (
        changed(case, 40, vendor="fjord"),
        changed(case, 40, weekday="much"),
        [record | {"gasket": 1} for record in case.sent()],
        [without(each, "built") | {"Hxq": each["built"]} for each in case.sent()],
    ):
        assert told_of(case.detected(records, source)) != []
        assert is_suspect(case.contract, batch_of(case.contract, records, textual=False), source)


def test_a_key_under_another_name_is_known_by_its_values() -> None:
    case = plain()
    records = [without(each, "serial") | {"Hxq": each["serial"]} for each in case.sent()]
    drift = case.detected(records)
    assert told_of(drift) == [("RENAME", "serial", "serial", "Hxq", "Hxq")]
    assert drift.health.risk == "HIGH"
    assert evolve(case, drift).key == "hxq"


def test_a_key_that_does_not_come_is_gone_and_no_contract_can_do_without() -> None:
    case = plain()
    drift = case.detected([without(each, "serial") for each in case.sent()])
    assert told_of(drift) == [("REMOVE", "serial", "serial", None, None)]
    with pytest.raises(Unevolved):
        evolve(case, drift)


@pytest.mark.parametrize("other", ["boolean", "nested"])
def test_a_key_that_cannot_be_one_is_followed_by_no_contract(other: str) -> None:
    case = plain()
    drift = case.detected([each | {"serial": True if other == "boolean" else [1]} for each in case.sent()])
    assert told_of(drift) == [("TYPE_CHANGE", "serial", "serial", "serial", other)]
    with pytest.raises(Unevolved):
        evolve(case, drift)


def test_a_time_by_which_records_are_ordered_is_followed_by_no_contract() -> None:
    fields = [of_type("datetime", "seen", editable=False), of_type("text", "plate")]
    ingestion = SEMANTICS | {"idempotencyKey": ["serial"], "eventTimeColumn": "seen"}
    case = replace(plain(*fields), contract=contract_of(fields, ingestion=ingestion))
    for records in (changed(case, 40, seen=7), [without(each, "seen") for each in case.sent()]):
        drift = case.detected(records)
        assert len(drift.changes) == 1
        with pytest.raises(Unevolved):
            evolve(case, drift)


def test_an_indexed_text_gets_no_longer_than_its_index_bears() -> None:
    case = plain(of_type("text", "plate", indexed=True, maxLength=40))
    assert evolve(case, case.detected(changed(case, 40, plate="x" * 500))).by_name["plate"].max_length == 500
    with pytest.raises(Unevolved, match="indexed"):
        evolve(case, case.detected(changed(case, 40, plate="x" * 501)))


def test_what_sums_up_a_whole_number_sums_up_its_fractions() -> None:
    """A wider type takes nothing away that is made of the field; another one does."""
    parts = {
        "hot": [{"sort": "ratio"}],
        "measures": [{"name": "ratio", "kind": "sum", "of": "ratio"}],
        "rules": [{"type": "range", "field": "ratio", "max": 500}],
        "computed": [{"name": "twice", "type": "number", "expression": "ratio * 2"}],
    }
    fields = [of_type("integer", "ratio", indexed=True)]
    case = replace(plain(*fields), contract=contract_of(fields, **parts))
    wider = evolve(case, case.detected(changed(case, 40, ratio=Decimal("2.5"))))
    assert wider.by_name["ratio"].type == "number"
    assert (wider.by_name["ratio"].minimum, wider.by_name["ratio"].maximum) == (0, 10_000)
    assert [len(getattr(wider, part)) for part in parts] == [1, 1, 1, 1]
    other = evolve(case, case.detected(changed(case, 40, ratio="a lot")))
    assert [len(getattr(other, part)) for part in parts] == [0, 0, 0, 0]


def test_hot_sorts_that_differ_by_what_is_gone_become_one() -> None:
    parts = {"hot": [{"sort": "ratio"}, {"sort": "ratio", "filters": ["plate"]}, {"sort": "ratio", "descending": True}]}
    fields = [of_type("number", "ratio", indexed=True), of_type("text", "plate", indexed=True)]
    case = replace(plain(*fields), contract=contract_of(fields, **parts))
    found = evolve(case, case.detected([without(each, "plate") for each in case.sent()])).hot
    assert [(hot.sort, hot.descending, hot.filters) for hot in found] == [("ratio", False, ()), ("ratio", True, ())]


DERIVED = [
    of_type("boolean", "known", derivedFrom=["plate"], editable=False, indexed=True),
    of_type("boolean", "sure", derivedFrom=["known"], editable=False, indexed=True),
]
OF_DERIVED = {
    "hot": [{"sort": "ratio", "filters": ["known"]}],
    "measures": [{"name": "known", "kind": "count", "of": "known"}],
    "rules": [{"type": "required", "fields": ["ratio"], "when": "known"}],
    "computed": [{"name": "stated", "type": "boolean", "expression": "!sure"}],
    "exclusions": [{"name": "unknown", "field": "sure"}, {"name": "unstated", "field": "stated"}],
}


def derived() -> Case:
    """Rows with a field that is derived of another, one that is derived of that, and what names them."""
    fields = [of_type("text", "plate"), of_type("number", "ratio", indexed=True)]
    return replace(plain(*fields), contract=contract_of([*fields, *DERIVED], **OF_DERIVED))


def test_what_is_derived_of_a_field_goes_with_it_and_all_that_names_it() -> None:
    case = derived()
    found = evolve(case, case.detected([without(each, "plate") for each in case.sent()]))
    assert set(found.by_name) == {"serial", "ratio"}
    assert [(part, len(getattr(found, part))) for part in OF_DERIVED] == [
        ("hot", 1), ("measures", 0), ("rules", 0), ("computed", 0), ("exclusions", 0),
    ]  # fmt: skip
    assert found.hot[0].filters == ()


def test_what_is_derived_of_a_field_follows_its_name() -> None:
    case = derived()
    found = evolve(case, case.detected([without(each, "plate") | {"Hxq": each["plate"]} for each in case.sent()]))
    assert found.by_name["known"].derived_from == ("hxq",)
    assert [len(getattr(found, part)) for part in OF_DERIVED] == [1, 1, 1, 1, 2]


def test_columns_that_are_called_alike_become_fields_of_their_own() -> None:
    """One is a field that is called otherwise, another one is new, and both make the same name."""
    case = plain()
    records = [without(each, "built") | {"Gas-Ket": each["built"], "gasKet": 1} for each in case.sent()]
    drift = case.detected(records)
    assert [each[:2] for each in told_of(drift)] == [("ADD", "gasKet"), ("RENAME", "built")]
    assert [each.name for each in evolve(case, drift).fields if each.name.startswith("gas")] == ["gasKet2", "gasKet"]


@pytest.mark.parametrize("value", ["fj\0rd", "x" * 61, {"a": 1}, ["gold"], 10**40, Decimal("1e99999999")])
def test_values_that_no_field_can_hold_widen_none(value: Any) -> None:
    """And take no longer than others to be looked at."""
    case = plain()
    names = [name for name in case.columns if name != "serial"]
    drift = case.detected(changed(case, 5, **dict.fromkeys(names, value)))
    assert [each for each in told_of(drift) if each[0] in ("VALUES_CHANGE", "LIMIT_CHANGE")] in (
        [], [("LIMIT_CHANGE", "plate", "plate", "plate", 500)],
    )  # fmt: skip


def test_rows_whose_key_cannot_be_read_are_compared_with_none() -> None:
    case = plain()
    keys = ["", "x" * 300, "a\nb", None, 7, [1], "fj\0rd"]
    records = [each | {"serial": keys[place % len(keys)]} for place, each in enumerate(case.sent())]
    batch = with_keys(case.contract, batch_of(case.contract, records, textual=False))
    assert [*batch.keys] == [None] * len(records)


def test_appended_records_are_told_by_all_that_is_there() -> None:
    """Several rows have one key: what was renamed is known by the values that the field has."""
    fields = [of_type("datetime", "seen", editable=False), of_type("text", "plate"), of_type("integer", "ratio")]
    ingestion = SEMANTICS | {"mode": "append", "idempotencyKey": ["serial"], "eventTimeColumn": "seen"}
    case = replace(plain(*fields), contract=contract_of(fields, ingestion=ingestion))
    assert told_of(case.detected(case.sent())) == []
    records = [without(each, "plate") | {"Hxq": each["plate"]} for each in case.sent()]
    assert told_of(case.detected(records)) == [("RENAME", "plate", "plate", "Hxq", "Hxq")]
    records = [without(each, "plate") for each in case.sent()]
    assert told_of(case.detected(records)) == [("REMOVE", "plate", "plate", None, None)]


def test_a_key_of_several_fields_tells_rows_apart() -> None:
    fields = [of_type("date", "built", editable=False), of_type("boolean", "leased"), of_type("text", "plate")]
    contract = contract_of(
        fields, key=["serial", "built"], ingestion=SEMANTICS | {"idempotencyKey": ["serial", "built"]}
    )
    case = replace(plain(*fields), contract=contract)
    records = [without(each, "leased") | {"Hxq": each["leased"]} for each in case.sent()]
    batch = with_keys(contract, batch_of(contract, records, textual=False))
    known = Known(dict(zip(map(str, batch.keys), case.rows, strict=True)), case.rows)
    assert told_of(detect(contract, batch, known, Source.SAMPLE)) == [("RENAME", "leased", "leased", "Hxq", "Hxq")]


def test_a_mapped_field_is_looked_for_in_its_column() -> None:
    case = plain()
    mapped: dict[str, str | None] = {"plate": "Hxq"}
    records = [without(each, "plate") | {"Hxq": each["plate"]} for each in case.sent()]
    known = Known({row["serial"]: row for row in case.rows}, case.rows)

    def told(sent: list[Record], source: Source = Source.SAMPLE) -> list[Told]:
        batch = batch_of(case.contract, sent, textual=False, mapped=mapped)
        return told_of(detect(case.contract, with_keys(case.contract, batch), known, source))

    assert told(records) == []
    assert told([without(each, "Hxq") for each in records]) == [("REMOVE", "plate", "Hxq", None, None)]
    assert told([without(each, "Hxq") | {"ojfw": each["Hxq"]} for each in records]) == [
        ("RENAME", "plate", "Hxq", "ojfw", "ojfw"),
    ]  # fmt: skip


# -- names and health --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "least", "most"),
    [
        ("plate", "plate", 1.0, 1.0),
        ("purchasePrice", "purchase_price", 1.0, 1.0),
        ("purchasePrice", "PURCHASE PRICE", 1.0, 1.0),
        ("purchasePrice", "price_purchase", 1.0, 1.0),
        ("quantity", "qty", 1.0, 1.0),
        ("category", "cat", 1.0, 1.0),
        ("weight", "wt", 1.0, 1.0),
        ("company", "companyName", 0.7, 0.9),
        ("größe", "groesse", 0.7, 1.0),
        ("préfix", "prefix", 1.0, 1.0),
        ("insured", "id", 0.0, 0.5),
        ("company", "mileage", 0.0, 0.6),
        ("revenue", "tier", 0.0, 0.6),
        ("weight", "height", 0.6, 0.9),
        ("price", "\U0001f600", 0.0, 0.0),
        ("", "", 0.0, 0.0),
        ("x" * 10_000, "y" * 10_000, 0.0, 0.0),
    ],
)
def test_how_alike_names_are(one: str, other: str, least: float, most: float) -> None:
    assert least <= alike(one, other) <= most
    assert alike(one, other) == alike(other, one)


def wide(count: int) -> Contract:
    """So many fields, the key one of them, and a cost."""
    fields = [of_type("number", f"amount{number}", indexed=True) for number in range(count - 1)]
    measures = [{"name": "cost", "kind": "sum", "of": "amount0"}]
    return contract_of(fields, measures=measures)


@pytest.mark.parametrize(
    ("missing", "new", "retyped", "risk"),
    [
        (0, 0, 0, "LOW"),
        (2, 2, 1, "LOW"),
        (3, 0, 0, "MEDIUM"),
        (0, 3, 0, "MEDIUM"),
        (0, 0, 2, "MEDIUM"),
        (4, 5, 3, "MEDIUM"),
        (5, 0, 0, "HIGH"),
        (0, 6, 0, "HIGH"),
        (0, 0, 4, "HIGH"),
    ],
)
def test_health_at_its_borders(missing: int, new: int, retyped: int, risk: str) -> None:
    """Of twenty fields: medium above 10 %, 2 and 1, high above 20 %, 5 and 3."""
    gone = [f"amount{number + 1}" for number in range(missing)]
    assert health_of(wide(20), gone, new=new, retyped=retyped).risk == risk


@pytest.mark.parametrize("vital", ["serial", "amount0"])
def test_a_key_or_a_cost_that_is_missing_is_a_high_risk(vital: str) -> None:
    assert health_of(wide(20), [vital], new=0, retyped=0).risk == "HIGH"
