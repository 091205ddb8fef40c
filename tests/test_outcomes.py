"""What becomes of a push where upstream asks, makes something else of a value, or loses the answer to a new row."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from app.upstream.likeness import alike, is_near
from app.upstream.protocol import Failed, OutcomeUnknown, Question, Refused
from app.web.auth import Role
from tests.support.ledger import Ledger
from tests.support.syncing import Yard, open_yard, van
from tests.support.world import User

NEW: dict[str, Any] = {"depot": "South", "kind": "Van", "mileage": 7, "seats": 2}


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """A ledger of three vehicles that are in the mirror already."""
    ledger = Ledger("plate", {f"V-{number}": van(mileage=number * 100) for number in range(1, 4)})
    async with open_yard(database_url, ledger, concurrency=1) as yard:
        await yard.work()
        yield yard
        await yard.check()


async def failed(yard: Yard) -> list[dict[str, Any]]:
    """Changes that wait for a person, as people see them."""
    boss = yard.users.get("boss") or await yard.user("boss", role=Role.ENGINEER)
    answer = await boss.get("sync/failed")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def retry(yard: Yard) -> None:
    answer = await yard.users["boss"].post("sync/retry", {"all": True})
    assert answer.status_code == 200, answer.text
    await yard.later(minutes=10)


async def new_row(yard: Yard, name: str = "ann", **fields: Any) -> User:
    """Somebody's committed new row, whose key upstream gives; its answer is lost."""
    user = yard.users.get(name) or await yard.user(name)
    yard.ledger.lost = 1
    await user.draft(f"new-of-{name}", NEW | fields, op="insert")
    await user.commit()
    await yard.work()
    assert (await yard.states())[-1] == "committed"
    return user


# -- what waits for a person -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            Question("Close: There are open lines. Close it all the same?"),
            "QUESTION",
            "the same? (a question;",
        ),
        (Refused("X is not a valid Class"), "REFUSED", "X is not a valid Class"),
    ],
)
async def test_a_question_and_a_refusal_wait_with_their_words(
    yard: Yard, error: Exception, code: str, words: str
) -> None:
    """One attempt, no blind retry; nobody else waits for it."""
    yard.ledger.failures["write"] = [error]
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 1})
    await ann.draft("V-2", {"mileage": 2})
    await ann.commit()
    await yard.work()
    await yard.later(hours=1)
    (change,) = await failed(yard)
    assert (change["state"], change["code"], change["attempts"], change["near"]) == ("sync_error", code, 1, [])
    assert words in change["error"]
    assert sorted(await yard.states()) == ["sync_error", "synced"]
    await retry(yard)
    assert (await failed(yard), yard.ledger.rows["V-1"]["mileage"]) == ([], 1)


async def test_what_is_tried_too_often_says_so(yard: Yard) -> None:
    yard.ledger.poison["write", "V-1"] = OutcomeUnknown("No answer came")
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 1})
    await ann.commit()
    for _ in range(12):
        await yard.later(minutes=10)
    (change,) = await failed(yard)
    assert (change["code"], change["error"]) == ("ATTEMPTS", "No answer came (after 10 attempts)")


# -- what upstream makes of a value ------------------------------------------------------------------------------------


def shout(fields: dict[str, Any]) -> dict[str, Any]:
    """The depot in capitals."""
    return fields | ({"depot": fields["depot"].upper()} if fields.get("depot") else {})


async def test_what_upstream_made_of_a_value_is_told_and_not_fought(yard: Yard) -> None:
    yard.ledger.normalize = shout
    ann = await yard.user("ann")
    await ann.draft("V-1", {"depot": "west", "mileage": 150, "seats": 4})
    await ann.commit()
    await yard.work()
    row = await ann.row("V-1")
    assert (row["syncState"], row["data"]["depot"]) == ("pristine", "WEST")
    assert row["history"][0]["kept"] == {"depot": "WEST"}
    assert len(yard.ledger.writes) == 1
    boss = await yard.user("boss", role=Role.ENGINEER)
    runs = (await boss.get("sync/runs", {"kind": "push"})).json()["data"]
    assert runs[0]["counts"]["normalized"] == 1


async def test_a_value_that_upstream_keeps_as_it_was_is_told_too(yard: Yard) -> None:
    """Given WEST, when somebody writes west and upstream makes WEST of it, then no history tells, and this does."""
    yard.ledger.put("V-1", depot="WEST")
    await yard.later(minutes=16)
    yard.ledger.normalize = shout
    ann = await yard.user("ann")
    await ann.draft("V-1", {"depot": "west"})
    await ann.commit()
    await yard.work()
    entry = (await ann.row("V-1"))["history"][0]
    assert (entry["state"], entry["after"], entry["kept"]) == ("synced", {"depot": "west"}, {"depot": "WEST"})
    assert entry["before"] == {"depot": "WEST"}


async def test_a_lost_answer_is_found_though_upstream_made_something_else_of_it(yard: Yard) -> None:
    """Its own capitals are nobody's edit: no conflict, and no second write."""
    yard.ledger.normalize = shout
    yard.ledger.lost = 1
    ann = await yard.user("ann")
    await ann.draft("V-1", {"depot": "west"})
    await ann.commit()
    await yard.work()
    await yard.later(minutes=10)
    assert (await yard.states(), len(yard.ledger.writes)) == (["synced"], 1)
    assert (await ann.row("V-1"))["data"]["depot"] == "WEST"


@pytest.mark.parametrize("error", [Refused("It is not a valid one today"), Question("Go on?")])
@pytest.mark.parametrize("op", ["update", "insert"])
async def test_a_read_that_is_refused_decides_nothing_about_what_may_be_written(
    yard: Yard, error: Exception, op: str
) -> None:
    """Given a write whose answer was lost, then only reading tells, and a person is not told that it was not done."""
    yard.ledger.lost = 1
    ann = await yard.user("ann")
    if op == "insert":
        await ann.draft("new", NEW, op="insert")
    else:
        await ann.draft("V-1", {"depot": "west"})
    await ann.commit()
    await yard.work()
    yard.ledger.failures = {"hold": [error], "find_created": [error]}
    await yard.later(minutes=10)
    assert await yard.states() == ["committed"]
    yard.ledger.failures = {}
    await yard.later(minutes=10)
    assert (await yard.states(), len(yard.ledger.writes)) == (["synced"], 1)


async def test_somebodys_edit_after_a_lost_answer_is_a_conflict_still(yard: Yard) -> None:
    yard.ledger.lost = 1
    ann = await yard.user("ann")
    await ann.draft("V-1", {"depot": "west", "mileage": 1000})
    await ann.commit()
    await yard.work()
    yard.ledger.put("V-1", mileage=1010)
    await yard.later(minutes=10)
    assert await yard.states() == ["conflict"]


async def test_an_edit_like_ours_is_a_conflict_where_ours_was_never_sent(yard: Yard) -> None:
    """Given a first attempt that failed before it wrote anything, then WEST is somebody's and not ours."""
    yard.ledger.failures["hold"] = [Failed("x")]
    ann = await yard.user("ann")
    await ann.draft("V-1", {"depot": "west"})
    await ann.commit()
    await yard.work()
    yard.ledger.put("V-1", depot="WEST")
    await yard.later(minutes=10)
    assert await yard.states() == ["conflict"]


# -- new rows whose answers are lost -----------------------------------------------------------------------------------


async def test_a_token_finds_a_new_row_whatever_became_of_its_values(yard: Yard) -> None:
    yard.ledger.carries = True
    yard.ledger.normalize = shout
    ann = await new_row(yard)
    await yard.later(minutes=10)
    assert (await yard.states(), len(yard.ledger.writes)) == (["synced"], 1)
    assert (await ann.row("L-0004"))["data"]["depot"] == "SOUTH"


async def test_two_equal_new_rows_have_two_tokens(yard: Yard) -> None:
    yard.ledger.carries = True
    await new_row(yard, "ann")
    await new_row(yard, "bob")
    await yard.later(minutes=10)
    assert [key for _, key, _ in yard.ledger.writes] == ["L-0004", "L-0005"]
    assert sorted(row for row, *_ in await yard.changes()) == ["L-0004", "L-0005"]


async def test_a_row_like_a_new_one_stops_for_a_person_who_sees_both(yard: Yard) -> None:
    """Nothing is sent twice: the row that upstream made of it is told beside what was sent."""
    yard.ledger.normalize = shout
    await new_row(yard)
    yard.ledger.near = {"L-0004"}
    await yard.later(minutes=10)
    (change,) = await failed(yard)
    assert (change["state"], change["code"], len(yard.ledger.writes)) == ("sync_error", "NEAR_MATCH", 1)
    assert change["delta"]["depot"] == "South"
    assert [(row["id"], row["data"]["depot"]) for row in change["near"]] == [("L-0004", "SOUTH")]
    assert "if one of them is it, discard this change; if none is, retry it" in change["error"]


async def test_whoever_lets_go_of_it_has_the_row_that_is_there(yard: Yard) -> None:
    yard.ledger.normalize = shout
    ann = await new_row(yard)
    yard.ledger.near = {"L-0004"}
    await yard.later(minutes=10)
    answer = await ann.post("discard", {"ids": ["new-of-ann"]})
    assert answer.status_code == 200, answer.text
    await yard.later(hours=1)
    assert {row["id"] for row in await ann.rows()} == {"V-1", "V-2", "V-3", "L-0004"}
    assert len(yard.ledger.writes) == 1


async def test_whoever_tries_again_sends_it(yard: Yard) -> None:
    """The rows that were shown are none of it; one that comes later stops it again."""
    yard.ledger.normalize = shout
    await new_row(yard)
    yard.ledger.near = {"L-0004"}
    await yard.later(minutes=10)
    await failed(yard)
    await retry(yard)
    assert [key for _, key, _ in yard.ledger.writes] == ["L-0004", "L-0005"]
    assert await yard.states() == ["synced"]


async def test_rows_that_were_shown_once_are_not_asked_about_again(yard: Yard) -> None:
    """Given another try whose answer is lost, too, then the person sees what has come since, and the next try goes."""
    yard.ledger.normalize = shout
    await new_row(yard)
    yard.ledger.near = {"L-0004"}
    await yard.later(minutes=10)
    await failed(yard)
    yard.ledger.lost = 1
    await retry(yard)
    yard.ledger.near = {"L-0004", "L-0005"}
    await yard.later(minutes=10)
    (change,) = await failed(yard)
    assert [row["id"] for row in change["near"]] == ["L-0004", "L-0005"]
    await retry(yard)
    assert (await yard.states(), len(yard.ledger.writes)) == (["synced"], 3)


async def test_a_row_that_was_there_before_is_not_like_a_new_one(yard: Yard) -> None:
    yard.world.clock.move(minutes=1)
    yard.ledger.failures["write"] = [OutcomeUnknown("No answer came")]
    ann = await yard.user("ann")
    await ann.draft("new-of-ann", NEW, op="insert")
    await ann.commit()
    await yard.work()
    yard.ledger.near = {"V-1"}
    await yard.later(minutes=10)
    assert (await yard.states(), len(yard.ledger.writes)) == (["synced"], 1)


# -- likeness ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "sent", "kept"),
    [
        ("text", "north west", "NORTH  WEST "),
        ("text", " padded ", "padded"),
        ("text", "a text that is far too long", "A TEXT THAT IS FAR"),
        ("enum", "van", "Van"),
        ("number", Decimal("12.345"), Decimal("12.35")),
        ("number", Decimal("12.345"), Decimal("12.34")),
        ("number", Decimal("12.6"), 13),
        ("boolean", None, False),
        ("text", "", None),
        ("date", "2026-01-01", "2026-01-01"),
    ],
)
def test_what_upstream_may_make_of_a_value_is_like_it(kind: Any, sent: Any, kept: Any) -> None:
    assert alike(kind, sent, kept)


@pytest.mark.parametrize(
    ("kind", "sent", "kept"),
    [
        ("text", "north", "south"),
        ("text", "north", None),
        ("text", "West Hall", "West"),
        ("text", None, "north"),
        ("number", 1000, 1010),
        ("number", Decimal("12.345"), Decimal("12.36")),
        ("number", 0, 1),
        ("boolean", True, False),
        ("date", "2026-01-01", "2026-01-02"),
    ],
)
def test_what_somebody_may_have_made_of_it_is_not(kind: Any, sent: Any, kept: Any) -> None:
    assert not alike(kind, sent, kept)


def test_half_of_the_values_make_a_row_near() -> None:
    kinds: dict[str, Any] = {"a": "text", "b": "text", "c": "number"}
    assert is_near(kinds, {"a": "x", "b": "y"}, {"a": "X", "b": "other"})
    assert not is_near(kinds, {"a": "x", "b": "y", "c": 1}, {"a": "X", "b": "other", "c": 2})
    assert not is_near(kinds, {"a": None}, {"a": "x"})
    assert not is_near(kinds, {}, {"a": "x"})
