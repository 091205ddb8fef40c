"""The PEMS adapter against the simulator: single rows, broken ones, and writes with their lock."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from app.contracts import PFA
from app.simulator import Dataspies, Dataspy, Fault, Simulator, Writing
from app.upstream.pems.adapter import Pems
from app.upstream.pems.config import Alias, Token, Writes
from app.upstream.protocol import (
    Broken,
    Created,
    Failed,
    OutcomeUnknown,
    Refused,
    Row,
    Stale,
    Write,
)
from tests.support.pems import FIRST, NOW, connected, documents, keys, known, pull, simulator, update

NEW: dict[str, Any] = {
    "category": "Cranes",
    "source": "Rental",
    "dor": "BEO",
    "monthlyRate": Decimal("1234.50"),
    "equipment": "CRN-1",
}


@pytest.fixture
async def sim(anyio_backend: str) -> AsyncIterator[Simulator]:
    async with simulator(RIO=25, RIO2=5, LIMA=7) as found:
        yield found


@pytest.fixture
async def pems(sim: Simulator) -> AsyncIterator[Pems]:
    async with connected(sim.url) as found:
        yield found


# --- rows that cannot be read


async def test_damaged_rows_are_broken_and_the_others_come(sim: Simulator, pems: Pems) -> None:
    damage = {"pfs_f_rental": "much", "pfs_f_startdate": "31-FEB-2026"}
    sim.fault(Fault(kind="rows", values=damage, ids=(FIRST,)))

    pages = await pull(pems)

    (broken,) = [broken for page in pages for broken in page.broken]
    assert broken.key == FIRST
    assert {reason.field for reason in broken.reasons} == {"monthlyRate", "forecastStart"}
    assert damage.items() <= broken.received.items()
    assert documents(pages).keys() == known(sim, "RIO").keys() - {FIRST}


@pytest.mark.parametrize("shape", ["D", "CELL", "DATAFIELD", "GRIDS"])
async def test_a_column_that_goes_missing_breaks_every_row(sim: Simulator, pems: Pems, shape: Any) -> None:
    await pems.page(since=None, cursor=None)
    sim.writing = Writing(shape=shape, without=("pfs_f_class",))

    pages = await pull(pems)

    assert documents(pages) == {}
    broken = {broken.key: broken.reasons for page in pages for broken in page.broken}
    assert broken.keys() == known(sim, "RIO").keys()
    assert {reason.field for reasons in broken.values() for reason in reasons} == {"class"}


async def test_a_column_that_goes_missing_within_a_pull_is_noticed(sim: Simulator, pems: Pems) -> None:
    first = await pems.page(since=None, cursor=None)
    sim.writing = Writing(without=("pfs_f_class",))

    second = await pems.page(since=None, cursor=first.cursor)

    assert second.rows == ()
    assert {reason.field for broken in second.broken for reason in broken.reasons} == {"class"}


async def test_lines_whose_id_cannot_be_read_do_not_stop_a_pull(sim: Simulator, pems: Pems) -> None:
    sim.fault(Fault(kind="rows", values={"pfs_id": 7}))

    pages = await pull(pems, most=6)

    assert {broken.key for page in pages for broken in page.broken} == {None}
    assert len({json.dumps(broken.received, default=str) for page in pages for broken in page.broken}) == 25


async def test_an_answer_that_does_not_name_its_columns_fails(sim: Simulator, pems: Pems) -> None:
    sim.fault(Fault(kind="no_headers"))

    with pytest.raises(Failed, match="does not name its columns"):
        await pems.page(since=None, cursor=None)


async def test_a_line_that_does_not_say_whose_it_is_shows_nothing_but_its_id(sim: Simulator, pems: Pems) -> None:
    """It may be another organization's: PEMS sends RIO2's lines, too, to whom asks for RIO."""
    sim.fault(Fault(kind="rows", values={"pfs_a_org": ""}, ids=(FIRST,)))

    broken = [broken for page in await pull(pems) for broken in page.broken]

    assert broken
    for each in broken:
        assert (each.key, [reason.field for reason in each.reasons]) == (FIRST, ["organization"])
        assert each.received.keys() == {"pfs_id", "line"}
        assert each.received["pfs_id"] == FIRST


# --- one row


async def test_a_row_is_read_as_a_pull_brings_it(sim: Simulator, pems: Pems) -> None:
    row = await pems.read(FIRST)

    assert isinstance(row, Row)
    assert row.document == known(sim, "RIO")[FIRST]
    assert row in (await pems.page(since=None, cursor=None)).rows
    assert await pems.read("nothing") is None


async def test_a_row_that_cannot_be_read_is_broken(sim: Simulator, pems: Pems) -> None:
    sim.fault(Fault(kind="rows", values={"pfs_f_rental": "much"}))

    row = await pems.read(FIRST)

    assert isinstance(row, Broken)
    assert (row.key, row.reasons[0].field) == (FIRST, "monthlyRate")


async def test_a_held_row_has_the_editable_fields_and_the_token(sim: Simulator, pems: Pems) -> None:
    held = await pems.hold(FIRST)

    assert held is not None
    assert held.token == str(sim.recordid("RIO", FIRST))
    document = known(sim, "RIO")[FIRST]
    editable = {field.name for field in PFA.fields if field.editable}
    assert held.document == {name: document[name] for name in editable | {"pfaId", "organization"}}
    assert await pems.hold("nothing") is None


async def test_a_row_of_a_further_code_is_found_and_written_there(sim: Simulator) -> None:
    sim.put("LIMA", "L-1", {"category": "Cranes"})

    async with connected(sim.url, organizations=("RIO", "LIMA")) as pems:
        row = await pems.read("L-1")
        await update(pems, "L-1", model="M")

    assert isinstance(row, Row)
    assert row.document["organization"] == "LIMA"
    assert known(sim, "LIMA")["L-1"]["model"] == "M"
    assert sim.record("RIO", "L-1") is None


async def test_a_held_row_that_lacks_a_field_fails_rather_than_to_seem_empty(sim: Simulator) -> None:
    other = {"model": Alias(read="pfs_f_model", write="PFS_F_OTHER")}

    async with connected(sim.url, mapping=other) as pems:
        with pytest.raises(Failed, match="does not show PFS_F_OTHER"):
            await pems.hold(FIRST)


# --- writing


VALUES: dict[str, Any] = {
    "areaSilo": 'Silo, 7 "é" ',
    "category": "Cranes",
    "source": "Purchase",
    "dor": "PROJECT",
    "monthlyRate": Decimal("1234567.0123"),
    "purchasePrice": 7,
    "equipment": None,
    "forecastStart": "2028-02-29",
    "forecastEnd": None,
    "isActualized": True,
    "isDiscontinued": False,
}


async def test_every_type_is_written_and_read_back(sim: Simulator, pems: Pems) -> None:
    before = known(sim, "RIO")[FIRST]

    await update(pems, FIRST, **VALUES)

    row, held = await pems.read(FIRST), await pems.hold(FIRST)
    assert isinstance(row, Row)
    assert held is not None
    assert row.document | VALUES == row.document
    assert held.document | VALUES == held.document
    unchanged = before.keys() - VALUES.keys() - {"pemsVersion"}
    assert {name: row.document[name] for name in unchanged} == {name: before[name] for name in unchanged}
    assert known(sim, "RIO")[FIRST] == row.document


async def test_a_row_is_written_once(sim: Simulator, pems: Pems) -> None:
    await update(pems, FIRST, model="M")

    assert sim.counts().writes == {f"RIO/{FIRST}": {"ADD": 0, "UPDATE": 1, "DELETE": 0}}


async def test_a_row_that_changed_since_it_was_held_is_stale(sim: Simulator, pems: Pems) -> None:
    held = await pems.hold(FIRST)
    sim.edit("RIO", FIRST, {"model": "Theirs"})

    for op in ("update", "delete"):
        with pytest.raises(Stale, match="modified by another user"):
            await pems.write(Write(op=op, key=FIRST, fields={"model": "Mine"} if op == "update" else {}), held)

    assert known(sim, "RIO")[FIRST]["model"] == "Theirs"


async def test_a_row_is_deleted(sim: Simulator, pems: Pems) -> None:
    assert await pems.write(Write(op="delete", key=FIRST, fields={}), await pems.hold(FIRST)) == FIRST

    assert sim.record("RIO", FIRST) is None
    assert await pems.hold(FIRST) is None


async def test_a_row_that_is_gone_cannot_be_written(sim: Simulator, pems: Pems) -> None:
    held = await pems.hold(FIRST)
    sim.delete("RIO", FIRST)

    with pytest.raises(Stale, match="Record not found"):
        await pems.write(Write(op="update", key=FIRST, fields={"model": "M"}), held)


async def test_a_new_row_gets_its_id_from_upstream(sim: Simulator, pems: Pems) -> None:
    key = await pems.write(Write(op="insert", key=None, fields={**NEW, "hasPlan": False, "contract": None}), None)

    assert key == "PFA-0000026"
    row = await pems.read(key)
    assert isinstance(row, Row)
    assert row.document.items() >= NEW.items()
    assert row.document["organization"] == "RIO"


async def test_a_new_row_may_bring_its_id_and_say_its_organization(sim: Simulator) -> None:
    async with connected(sim.url, organizations=("RIO", "LIMA")) as pems:
        write = Write(op="insert", key="MY-1", fields={**NEW, "pfaId": "MY-1", "organization": "LIMA"})
        assert await pems.write(write, None) == "MY-1"
        assert (await pems.find_created(write, NOW)).certain == ("MY-1",)
        with pytest.raises(Stale, match="already exists"):
            await pems.write(write, None)
        with pytest.raises(Refused, match="ROME is none of those"):
            await pems.write(Write(op="insert", key=None, fields={**NEW, "organization": "ROME"}), None)

    assert known(sim, "LIMA")["MY-1"]["category"] == "Cranes"


async def test_what_cannot_be_written_is_refused_and_nothing_is(sim: Simulator) -> None:
    fields = {**NEW, "equipment": "CRN-1"}
    async with connected(sim.url, mapping={"equipment": Alias(read="pfs_equipment_tag")}) as pems:
        with pytest.raises(Refused, match="equipment cannot be written"):
            await pems.write(Write(op="insert", key=None, fields=fields), None)

    assert sim.counts().writes == {}


async def test_what_pems_alone_gives_to_a_line_is_left_out_of_a_new_one(sim: Simulator, pems: Pems) -> None:
    """A line that is inserted again, by a commit of an earlier release, has the whole row."""
    fields = {**NEW, "originalStart": "2026-01-01", "pemsVersion": "1", "contract": "C", "hasPlan": True}
    key = await pems.write(Write(op="insert", key="PFA-9000001", fields=fields), None)

    row = await pems.read(key)
    assert isinstance(row, Row)
    assert (row.key, row.document["originalStart"], row.document["equipment"]) == ("PFA-9000001", None, "CRN-1")


# --- new rows that are looked for


TOKEN = Token(read="pfs_udfchar01", write="PFS_UDFCHAR01")


def insert(token: str | None = None, /, **fields: Any) -> Write:
    return Write(op="insert", key=None, fields=fields, token=token)


async def test_created_rows_are_found_by_all_their_values(sim: Simulator, pems: Pems) -> None:
    fields = {**NEW, "isDiscontinued": None, "purchasePrice": None, "model": "", "forecastStart": "2026-05-01"}
    keys = tuple([await pems.write(insert(**fields), None) for _ in range(2)])
    for differing in ({"monthlyRate": Decimal("1234.51")}, {"forecastStart": None}, {"isDiscontinued": True}):
        await pems.write(insert(**fields | differing), None)

    assert (await pems.find_created(insert(**fields), NOW)).certain == keys
    assert (await pems.find_created(insert(**{**fields, "monthlyRate": Decimal("1234.5000")}), NOW)).certain == keys
    assert (await pems.find_created(insert(**{**fields, "equipment": "CRN-2"}), NOW)).certain == ()


async def test_a_row_of_which_nothing_was_said_is_found_empty(sim: Simulator, pems: Pems) -> None:
    key = await pems.write(insert(), None)

    assert await pems.find_created(insert(), NOW) == Created(certain=(key,))


async def test_created_rows_without_a_text_are_looked_for_on_every_page(sim: Simulator, pems: Pems) -> None:
    key = await pems.write(insert(monthlyRate=Decimal("0.01")), None)

    assert (await pems.find_created(insert(monthlyRate=Decimal("0.010")), NOW)).certain == (key,)


async def test_what_was_done_though_no_answer_came_can_be_seen(sim: Simulator, pems: Pems) -> None:
    sim.fault(Fault(kind="drop_after", action="ADD"))
    with pytest.raises(OutcomeUnknown):
        await pems.write(insert(**NEW), None)

    assert await pems.find_created(insert(**NEW), NOW) == Created(certain=("PFA-0000026",))


async def test_a_row_of_which_pems_made_something_else_is_near(sim: Simulator, pems: Pems) -> None:
    """Capitals, a rounded number, a default: not certain, and not to be sent twice."""
    sim.writing = Writing(normalize=True)
    write = insert(**NEW | {"dor": None, "model": " crane 7 ", "monthlyRate": Decimal("1234.567")})
    key = await pems.write(write, None)

    created = await pems.find_created(write, NOW)

    assert (created.certain, [row.key for row in created.near]) == ((), [key])
    assert created.near[0].document["model"] == "CRANE 7"


async def test_only_what_came_since_is_near(sim: Simulator, pems: Pems) -> None:
    await pems.write(insert(**NEW), None)
    wanted = insert(**NEW | {"equipment": "CRN-2"})

    assert len((await pems.find_created(wanted, NOW)).near) == 1
    assert len((await pems.find_created(wanted, NOW + timedelta(hours=23))).near) == 1
    assert await pems.find_created(wanted, NOW + timedelta(days=2)) == Created()
    assert await pems.find_created(insert(category="Other", model="M", areaSilo="A"), NOW) == Created()


async def test_a_token_finds_its_row_whatever_pems_made_of_it(sim: Simulator) -> None:
    sim.writing = Writing(normalize=True)
    async with connected(sim.url, token=TOKEN) as pems:
        one = insert("vanguard-1", **NEW | {"model": " x ", "monthlyRate": Decimal("0.005")})
        other = insert("vanguard-2", **one.fields)
        keys = [await pems.write(write, None) for write in (one, other)]

        assert [await pems.find_created(write, NOW) for write in (one, other)] == [
            Created(certain=(key,)) for key in keys
        ]
        assert await pems.find_created(insert("vanguard-3", **NEW), NOW) == Created()
    assert [sim.spare("RIO", key)["udfchar01"] for key in keys] == ["vanguard-1", "vanguard-2"]


async def test_without_a_field_for_it_no_token_is_written(sim: Simulator, pems: Pems) -> None:
    key = await pems.write(insert("vanguard-1", **NEW), None)

    assert sim.spare("RIO", key)["udfchar01"] is None
    assert (await pems.find_created(insert("vanguard-1", **NEW), NOW)).certain == (key,)


@pytest.mark.parametrize("token", [None, TOKEN], ids=["values", "token"])
async def test_a_created_row_that_cannot_be_read_is_not_sent_twice(sim: Simulator, token: Token | None) -> None:
    """Nobody knows that it is another one."""
    async with connected(sim.url, token=token) as pems:
        write = insert("vanguard-1", **NEW)
        key = await pems.write(write, None)
        sim.fault(Fault(kind="rows", values={"pfs_f_rental": "1,234"}, ids=(key,)))

        created = await pems.find_created(write, NOW)

    expected = Created(certain=(key,)) if token else Created(near=(Row(key=key, document={"pfaId": key}),))
    assert created == expected


# --- forms that are not known yet


SPOKEN = Writing(year="calendar", screen_numbers="bare", screen_flags="Yes/No")
BLANK = {field.name: None for field in PFA.fields if field.editable}


async def test_the_first_new_row_is_written_as_the_screen_shows_others(sim: Simulator, pems: Pems) -> None:
    sim.writing = SPOKEN

    key = await pems.write(insert(**NEW, forecastStart="2026-05-01", isActualized=True), None)

    assert sim.counts().requests == {"grid": 1, "GET": 1, "ADD": 1}
    assert known(sim, "RIO")[key].items() >= {**NEW, "forecastStart": "2026-05-01", "isActualized": True}.items()
    await pems.write(insert(**NEW), None)
    assert sim.counts().requests == {"grid": 1, "GET": 1, "ADD": 2}


async def test_the_first_value_of_an_empty_row_is_written_as_the_screen_shows_others(
    sim: Simulator, pems: Pems
) -> None:
    sim.writing = SPOKEN
    sim.put("RIO", FIRST, {})

    await update(pems, FIRST, monthlyRate=7, forecastStart="2026-05-01")

    assert known(sim, "RIO")[FIRST].items() >= {"monthlyRate": 7, "forecastStart": "2026-05-01"}.items()


@pytest.mark.parametrize("form", ["-1/0", "true/false", "+/-"])
async def test_a_line_with_flags_that_are_set_is_preferred_to_learn_from(sim: Simulator, pems: Pems, form: Any) -> None:
    """Of 0 nobody knows whether its opposite is 1 or -1."""
    sim.writing = Writing(screen_flags=form)
    for key in keys(sim, "RIO"):
        sim.edit("RIO", key, dict.fromkeys(("isActualized", "isDiscontinued", "isFundsTransferable"), False))
    sim.edit("RIO", "PFA-0000009", dict.fromkeys(("isActualized", "isDiscontinued", "isFundsTransferable"), True))

    key = await pems.write(insert(isActualized=True), None)

    assert known(sim, "RIO")[key]["isActualized"] is True


async def test_texts_and_nulls_need_no_form(sim: Simulator, pems: Pems) -> None:
    await pems.write(insert(category="Cranes", monthlyRate=None), None)

    assert sim.counts().requests == {"ADD": 1}


async def test_a_line_to_learn_from_that_cannot_be_read_does_not_stop_new_ones(sim: Simulator) -> None:
    """The rate is shown where the date should be."""
    mapping = {"forecastStart": Alias(read="pfs_f_startdate", write="PFS_F_RATE")}
    async with connected(sim.url, mapping=mapping) as pems:
        key = await pems.write(insert(purchasePrice=7), None)

    assert known(sim, "RIO")[key]["purchasePrice"] == 7


async def test_the_first_row_of_an_empty_pems_has_the_documented_forms() -> None:
    async with simulator(RIO=0) as sim, connected(sim.url) as pems:
        key = await pems.write(insert(**NEW, forecastStart="2026-05-01", isActualized=True), None)

        assert known(sim, "RIO")[key].items() >= {**NEW, "forecastStart": "2026-05-01", "isActualized": True}.items()


# --- the whole record


def sent(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The fields of each write from now on."""
    bodies: list[dict[str, Any]] = []
    answer = sim.answer

    async def listen(request: Any) -> Any:
        body = json.loads(request.body)
        if body.get("USERDEFINEDSERVICEACTION") in ("ADD", "UPDATE", "DELETE"):
            pairs = body["USERDEFINEDSCREENFIELDVALUELIST"]["USERDEFINEDSCREENFIELDVALUEPAIR"]
            named = {pair["USERDEFINEDSCREENFIELDNAME"]: pair["USERDEFINEDSCREENFIELDVALUE"] for pair in pairs}
            bodies.append(named)
        return await answer(request)

    monkeypatch.setattr(sim, "answer", listen)
    return bodies


async def test_an_update_sends_the_record_as_it_was_read_with_the_changes_over_it(
    sim: Simulator, pems: Pems, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim.edit("RIO", FIRST, {"udfchar01": "ours", "udfnum01": Decimal("1.50"), "udfdate01": "2026-07-01"})
    bodies, held = sent(sim, monkeypatch), await pems.hold(FIRST)

    await update(pems, FIRST, model="M")

    assert held is not None
    assert bodies == [held.record | {"PFS_F_MODEL": {"TEXTDATA": "M"}}]
    assert bodies[0]["PFS_UDFNUM01"]["NUMERICDATA"]["VALUE"] == 150


async def test_an_update_may_send_the_changes_alone(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = sent(sim, monkeypatch)
    async with connected(sim.url, writes=Writes(update="changes")) as pems:
        await update(pems, FIRST, model="M", equipment=None)

    assert [body.keys() for body in bodies] == [{"PFS_ID", "PFS_A_ORG", "PFS_F_MODEL", "PFS_EQUIPMENT"}]


async def test_a_deletion_names_the_record_alone(sim: Simulator, pems: Pems, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = sent(sim, monkeypatch)

    await pems.write(Write(op="delete", key=FIRST, fields={}), await pems.hold(FIRST))

    assert [body.keys() for body in bodies] == [{"PFS_ID", "PFS_A_ORG"}]


@pytest.mark.parametrize("mode", ["patch", "put"])
async def test_fields_that_nobody_has_mapped_survive_an_update(sim: Simulator, pems: Pems, mode: Any) -> None:
    spare = {"udfchar01": " ours ", "udfnum01": Decimal("-1.50"), "udfdate01": "1971-12-31"}
    sim.edit("RIO", FIRST, spare)
    before = known(sim, "RIO")[FIRST]
    sim.writing = Writing(update=mode)

    await update(pems, FIRST, model="M")

    assert sim.spare("RIO", FIRST) == spare
    assert known(sim, "RIO")[FIRST] == before | {"model": "M", "pemsVersion": "2026-03-01T12:00:00Z"}


async def test_changes_alone_lose_the_others_where_an_update_replaces(sim: Simulator) -> None:
    """Which is why it is a setting, and not the default."""
    sim.writing = Writing(update="put")
    async with connected(sim.url, writes=Writes(update="changes")) as pems:
        await update(pems, FIRST, model="M")

    assert known(sim, "RIO")[FIRST]["category"] is None


# --- a second look


async def test_a_line_that_a_dataspy_hides_is_there(sim: Simulator, pems: Pems) -> None:
    sim.dataspies = Dataspies(dataspies={"1": Dataspy(hides={"pfs_id": FIRST})}, default_dataspy="1")

    assert FIRST not in documents(await pull(pems))
    assert await pems.read(FIRST) is None
    assert await pems.exists(FIRST)
    assert not await pems.exists("PFA-9999999")


@pytest.mark.parametrize(
    "refusal", [Fault(kind="status", status=403), Fault(kind="alert", message="Authorization failed")]
)
async def test_where_the_screen_is_forbidden_the_grid_says_what_is_there(
    sim: Simulator, pems: Pems, refusal: Fault
) -> None:
    sim.fault(msgspec.structs.replace(refusal, at="screen"))

    assert await pems.exists(FIRST)
    assert not await pems.exists("PFA-9999999")
