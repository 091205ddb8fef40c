"""What makes a rival of a statement of the application; all but what it changes stays, so that it costs the same."""

import re

# A step of a statement, as sql/ is written, or the query behind the last one.
STEP = re.compile(
    r"^(?:WITH )?((\w+) AS (?:MATERIALIZED )?\(\n.*?\n\))|^(SELECT\b.*?);?\s*\Z", re.MULTILINE | re.DOTALL
)
QUERY = "SELECT"


def steps_of(text: str) -> dict[str, str]:
    """Name -> step; the query behind the last one is QUERY."""
    return {match[2] or QUERY: match[1] or match[3] for match in STEP.finditer(text)}


def replaced(statement: str, fragment: str) -> str:
    """The statement with the steps that the fragment has; raises ValueError for one that is not there."""
    steps, rivals = steps_of(statement), steps_of(fragment)
    if not rivals:
        raise ValueError("the fragment has no steps")
    if unknown := rivals.keys() - steps.keys():
        raise ValueError(f"the statement has no {', '.join(sorted(unknown))}")
    for name, rival in rivals.items():
        statement = statement.replace(steps[name], rival)
    return statement


def capped(page: str) -> str:
    """The mirror is counted no further than 10,001."""
    return _edited(
        r"\(SELECT count\(\*\) FROM (.*)\) AS base_count",
        r"(SELECT count(*) FROM (SELECT FROM \1 LIMIT 10001) AS capped) AS base_count",
        page,
    )


def joined(save: str) -> str:
    """Without LIMIT the planner makes the LATERAL an ordinary join, and chooses how."""
    return _edited(r"\n *LIMIT 1\b", "", save)


def _edited(pattern: str, other: str, statement: str) -> str:
    text, found = re.subn(pattern, other, statement)
    assert found, "the statement does it in another way"
    return text
