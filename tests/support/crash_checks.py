"""What has to be true when all is over, however often workers were killed; crashing.py is what went before."""

from collections import Counter
from typing import Any

from app.base import exact_json
from app.contracts.states import REFUSED
from app.simulator import Applied
from tests.support.crashing import CODE, UNDER_WAY, Document, Site


async def check_mirror(site: Site) -> None:
    """The mirror is what PEMS holds of the organization, line for line; quarantine is empty."""
    mirror, records = await site.mirror(), site.records()
    assert mirror.keys() ^ records.keys() == set()
    await check_lines(site)
    assert await site.world.db.fetchval("SELECT count(*) FROM quarantine") == 0
    neighbours = [each for each in site.written() if each.organization != CODE]
    assert not neighbours, "nobody writes lines of another organization"


async def check_lines(site: Site) -> None:
    """What both the mirror and PEMS have is the same."""
    mirror, records = await site.mirror(), site.records()
    different = [key for key in records if key in mirror and not same(mirror[key], records[key])]
    assert not different, [await story(site, key) for key in different[:3]]


LAST_RUNS = """SELECT kind, whole, state, since, started_at, finished_at, rows_read, left_alone, error_code
    FROM sync_run WHERE organization_id = 'acme' ORDER BY requested_at DESC LIMIT 12"""


async def story(site: Site, key: str) -> Document:
    """What happened to a row, for whoever has to find out why."""
    mirror, record = (await site.mirror()).get(key, {}), site.records().get(key, {})
    names = sorted({*mirror, *record})
    return {
        "id": key,
        "differs": {
            name: (mirror.get(name), record.get(name)) for name in names if mirror.get(name) != record.get(name)
        },
        "changes": [brief(each) for each in await site.changes() if key in (each["row_key"], each["temporary_key"])],
        "applied": [each for each in site.pems.counts().applied if each.id == key],
        "runs": [dict(each) for each in await site.world.db.fetch(LAST_RUNS)],
    }


def same(one: Document, other: Document) -> bool:
    """Whether two documents say the same: absent is null, and a time is a time however it is written."""
    return plain(one) == plain(other)


def plain(document: Document) -> Document:
    """A document without its nulls."""
    return {name: value for name, value in document.items() if value is not None and name != "pemsVersion"}


async def check_history(site: Site) -> None:
    """History, replayed revision by revision, is the mirror; each before is what the entries before it made."""
    rows: dict[str, Document] = {}
    entries = await site.world.db.fetch(
        "SELECT row_key, op, before, after, source, actor, commit_id FROM pfa.history WHERE organization_id = 'acme'"
        " ORDER BY revision, row_key"
    )
    for entry in entries:
        key = entry["row_key"]
        before, after = (exact_json.decode(entry[side] or b"{}") for side in ("before", "after"))
        if entry["op"] == "insert":
            assert key not in rows, key
            rows[key] = after
        elif entry["op"] == "delete":
            assert compact(rows.pop(key)) == compact(before), key
        else:
            assert {name: rows[key].get(name) for name in before} == before, key
            rows[key] |= after
        assert (entry["source"] == "push") >= (entry["actor"] is not None), "a pull has no actor"
    mirror = await site.mirror()
    assert {key: compact(row) for key, row in rows.items()} == {key: compact(row) for key, row in mirror.items()}


def compact(document: Document) -> Document:
    """A document without its nulls."""
    return {name: value for name, value in document.items() if value is not None}


async def check_changes(site: Site) -> Counter[str]:
    """Every change is in PEMS exactly once, or stands there with its reason and is not; and PEMS has no other write.

    Returns how many changes there are by state.
    """
    changes, written = await site.changes(), site.written()
    states = Counter(change["state"] for change in changes)
    problems: list[Any] = []
    stuck = await site.world.db.fetch(f"SELECT id, state FROM pfa.change AS c WHERE {UNDER_WAY}")
    problems += [("still on its way", tuple(row)) for row in stuck]
    left = list(written)
    for change in sorted(changes, key=lambda change: change["state"] != "synced"):
        mine = [each for each in left if is_of(change, each)]
        for each in mine:
            left.remove(each)
        if change["state"] == "synced":
            there = done_by_others(site, change)
            if len(mine) > 1 or (not mine and not there):
                problems.append((len(mine), "writes of a change that is synced", brief(change), mine))
        elif mine and not overwritten(site, mine[0]):
            problems.append((len(mine), "writes of a change that is not", brief(change), mine))
        if change["state"] in REFUSED and not change["last_error"]:
            problems.append(("no reason", brief(change)))
    problems += [("nobody's write", each) for each in left]
    ids = {each.id for problem in problems for part in problem if isinstance(part, list) for each in part}
    assert not problems, "\n".join(map(str, [len(problems), *problems[:5], *[await story(site, key) for key in ids]]))
    return states


def brief(change: Document) -> Document:
    """What one wants to know of a change that went wrong."""
    names = (
        "id row_key user_id op delta base state attempts sent_at last_error temporary_key created_at settled_at".split()
    )
    return {name: change[name] for name in names}


def is_of(change: Document, each: Applied) -> bool:
    """Whether a write is this change's: values name their change; a line is deleted once, if nobody adds it again."""
    if change["op"] == "delete":
        return each.action == "DELETE" and each.id == change["row_key"]
    if each.action == "DELETE":
        return False
    return bool(tokens(change["delta"]) & tokens(each.fields))


def tokens(fields: Document) -> set[str]:
    """The values that no other change writes."""
    return {value for name, value in fields.items() if name in ("model", "manufacturer") and "planner" in str(value)}


def done_by_others(site: Site, change: Document) -> bool:
    """Whether somebody in PEMS has done what the change wanted: a line that both delete."""
    return change["op"] == "delete" and change["row_key"] not in site.records()


def overwritten(site: Site, write: Applied) -> bool:
    """Whether somebody changed what was written before anybody could read it back: then it looks like a conflict."""
    later = site.pems.counts().applied
    later = later[later.index(write) + 1 :]
    return any(
        each.by == "somebody" and each.id == write.id and (each.action == "DELETE" or "model" in each.fields)
        for each in later
    )


async def check_lines_once(site: Site) -> None:
    """No line was added twice: each new one's values stand in one line."""
    added = Counter(token for each in site.written() if each.action == "ADD" for token in tokens(each.fields))
    assert max(added.values(), default=0) <= 1, added.most_common(3)


async def check_modifications(site: Site) -> None:
    """Whoever still has a layer over a row has a reason: a draft, or a change that waits for a person."""
    without = await site.world.db.fetch(
        "SELECT x.user_id, x.row_key, x.pending_state FROM pfa.modification AS x"
        " WHERE x.draft_op IS NULL AND NOT EXISTS (SELECT FROM pfa.change AS c"
        " WHERE c.row_key = x.row_key AND c.user_id = x.user_id AND c.state NOT IN ('synced', 'rejected', 'discarded'))"
    )
    assert not without, without[:3]


async def check_kpis(site: Site) -> None:
    """KPIs are what one counts in the rows."""
    answer = await (await site.boss()).get("kpis", {"groupBy": "source"})
    assert answer.status_code == 200, answer.text
    kpis = exact_json.decode(answer.content)["totals"]["baseline"]
    counted = await site.world.db.fetchrow(
        "SELECT count(*) AS rows, coalesce(sum(round(f_plan_cost, 2)), 0) AS plan,"
        " coalesce(sum(round(f_forecast_cost, 2)), 0) AS forecast, coalesce(sum(round(f_actual_cost, 2)), 0) AS actual,"
        " count(*) FILTER (WHERE f_is_actualized) AS actualized, count(*) FILTER (WHERE f_incomplete) AS incomplete"
        " FROM pfa.mirror WHERE organization_id = 'acme' AND f_is_discontinued IS NOT TRUE"
        " AND f_is_funds_transferable IS NOT TRUE"
    )
    assert counted is not None
    expected = dict(counted)
    assert {name: kpis[name] for name in expected} == expected


async def check_all(site: Site) -> Counter[str]:
    """Everything; returns how many changes there are by state."""
    await check_mirror(site)
    await check_history(site)
    states = await check_changes(site)
    await check_lines_once(site)
    await check_modifications(site)
    await check_kpis(site)
    return states


def defects(site: Site) -> list[str]:
    """Lines of the workers' log that tell of a job that ended with an error nobody expected."""
    lines = site.log.read_text().splitlines() if site.log.exists() else []
    return [line for line in lines if '"job failed"' in line or "Traceback" in line]
