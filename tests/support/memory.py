"""What a client remembers: answers by their ETags. What did not move has to be the same answer, byte for byte."""

import re
from collections.abc import Iterable

from app.base import exact_json
from tests.support.world import User

STATES = ("pristine", "draft", "committed", "syncing", "conflict", "sync_error")
LISTS = (
    "rows",
    "rows?sort=-id",
    "rows?search=a",
    "rows?include=computed,layers",
    "rows?include=deleted&sort=-id",
    *(f"rows?syncState={state}" for state in STATES),
    "rows?syncState=draft,conflict&sort=-id",
)
FIGURES = ("kpis",)
# How and when an answer was made, not what it says: how long it took, from which stored figures, where the feed was.
MADE = re.compile(rb'"(queryTime|viewRevision|position)":[^,}]*')


class Memory:
    """Questions of several people, each asked again and again with the tag of its last answer."""

    def __init__(self, questions: Iterable[str] = (*LISTS, *FIGURES), each_time: int = 100):
        self.questions, self.each_time, self.place = tuple(questions), each_time, 0
        self.known: dict[tuple[str, str, str, str], dict[str, bytes]] = {}

    async def look(self, *users: User) -> None:
        """Ask some questions more, in turn."""
        for _ in range(min(self.each_time, len(self.questions))):
            question = self.questions[self.place % len(self.questions)]
            self.place += 1
            for user in users:
                await self.ask(user, question)

    async def ask(self, user: User, question: str) -> None:
        """A tag that was seen before, of whatever time, stands for the bytes that were seen with it."""
        known = self.known.setdefault((user.organization, user.id, user.dataset, question), {})
        answer = await user.get(question, headers={"If-None-Match": ", ".join(list(known)[-50:]) or '"none"'})
        if answer.status_code == 304:
            fresh = await user.get(question)
            assert fresh.headers["ETag"] == answer.headers["ETag"], question
            assert MADE.sub(b"", fresh.content) == known[fresh.headers["ETag"]], (user.id, question)
            return
        assert answer.status_code == 200, answer.text
        content, tag = answer.content, answer.headers["ETag"]
        assert known.setdefault(tag, MADE.sub(b"", content)) == MADE.sub(b"", content), (user.id, question)
        if question.startswith("rows"):
            page = exact_json.decode(content)
            assert page["pagination"]["totalRecords"] == len(page["data"]), (user.id, question)
            if "syncState" in question:
                states = question.partition("syncState=")[2].partition("&")[0].split(",")
                assert all(row["syncState"] in states for row in page["data"]), (user.id, question)
