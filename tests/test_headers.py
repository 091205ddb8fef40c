"""Headers that come in several lines, and lists of tags."""

from typing import Any

import pytest

from app.web.etags import entity_tags
from tests.support.world import User, World, line, refused

ROWS = "/api/v1/orgs/acme/datasets/pfa/rows"


async def ask(user: User, method: str, path: str, *pairs: tuple[str, str], **options: Any) -> Any:
    """A request with each of these headers in a line of its own."""
    headers = [("Authorization", f"Bearer {user.token}"), *pairs]
    return await user.world.http.request(method, path, headers=headers, **options)


@pytest.mark.parametrize("name", ["Idempotency-Key", "Content-Type", "Authorization", "Host"])
@pytest.mark.parametrize("same", [True, False])
async def test_what_is_said_once_is_not_said_twice(world: World, ann: User, name: str, same: bool) -> None:
    await world.mirror({"A": line()})
    given = {"Authorization": f"Bearer {ann.token}", "Host": "vanguard.test", "Content-Type": "application/json"}
    value = given.get(name, "one")
    pairs = [*(pair for pair in given.items() if pair[0] != name), (name, value), (name, value if same else "two")]
    body = b'{"modifications":[{"id":"A","delta":{"model":"M"}}]}'
    response = await world.http.post(ROWS.replace("rows", "drafts"), headers=pairs, content=body)
    problem = refused(response, 400, "MALFORMED_REQUEST")
    assert [(error["code"], error["parameter"]) for error in problem["errors"]] == [("INVALID_PARAMETER", name)]
    assert (await ann.row("A"))["syncState"] == "pristine"


async def test_two_lines_of_if_match_are_one_list(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    version = (await ann.draft("A", {"model": "M"}))["version"]
    held = (await ann.get("rows/A")).headers["ETag"]
    for tags in (('"x"', held), (held, '"x"'), ('"x", "a,b"', f'"y" , {held}')):
        response = await ask(ann, "PATCH", f"{ROWS}/A", *(("If-Match", tag) for tag in tags), json={"model": "M"})
        assert response.status_code == 200, tags
    bad: list[tuple[str, ...]] = [
        ('"x"', '"y"'),
        (f"W/{held}",),
        ('"x', held),
        (f'"x,{held}',),
        ("*", held),
        (f"{held}z",),
        ("",),
    ]
    for each in bad:
        response = await ask(ann, "PATCH", f"{ROWS}/A", *(("If-Match", tag) for tag in each), json={"model": "N"})
        refused(response, 412, "PRECONDITION_FAILED")
    assert (await ann.row("A"))["version"] == version


async def test_two_lines_of_if_none_match_are_one_list(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    for path in (ROWS, ROWS.replace("rows", "kpis"), "/api/pfa/acme", "/api/pfa/acme/stats"):
        held = (await ann.get(path)).headers["ETag"]
        for tags in ((held,), ('"x"', held), (held, '"x"'), ('"a,b"', held.removeprefix("W/")), ("*",)):
            same = await ask(ann, "GET", path, *(("If-None-Match", tag) for tag in tags))
            assert (same.status_code, same.headers["ETag"]) == (304, held), tags
        for tags in (('"x"',), ('"x"', 'W/"y"'), (f'"x,{held}',), ("",), ("x",)):
            assert (await ask(ann, "GET", path, *(("If-None-Match", tag) for tag in tags))).status_code == 200, tags


def test_a_list_of_tags_is_read_by_its_quotes() -> None:
    cases = {
        '"1"': ('"1"',),
        'W/"a,b", "c"': ('W/"a,b"', '"c"'),
        ' ,, "a" ,\t"b",': ('"a"', '"b"'),
        '""': ('""',),
        "*": ("*",),
        " * ": ("*",),
        "": (),
        '*, "1"': (),
        '"1" "2"': (),
        '"1", 2': (),
        'x"1"y': (),
        '"1': (),
        'w/"1"': (),
        '"\xff"': ('"\xff"',),
    }
    assert {header: entity_tags(header) for header in cases} == cases


@pytest.mark.parametrize("part", [" ", '"', '"a"', ",", ",;", " ,", 'W/"', "W/", '"a",'])
@pytest.mark.timeout(5)
def test_no_list_takes_long(part: str) -> None:
    for last in ("", "x"):
        entity_tags(part * (400_000 // len(part)) + last)
