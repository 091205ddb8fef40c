"""Clients that others wrote: the EventSource of Chromium, and that of npm, at a real server."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.accounts import add_account
from app.base import clock
from app.web.auth import Role
from tests.support.browser import Page, find_chromium, running
from tests.support.children import child
from tests.support.feed import happened, public, save
from tests.support.streams import LIMIT, free_port, until_ready
from tests.support.world import FLEET, User, World, vehicle
from tests.test_stream_restarts import client, gone, process

PASSWORD = "tangerine gramophone"


@pytest.fixture
async def ann(world: World) -> User:
    """An analyst of a fleet of two vans, at the time of other processes."""
    world.clock.at = clock.now()
    await world.mirror({key: vehicle() for key in "AB"}, contract=FLEET)
    return (await world.user("ann")).on("fleet")


@asynccontextmanager
async def serving(url: str, port: int) -> AsyncIterator["subprocess.Popen[str]"]:
    """A server process that answers, with a login over plain HTTP."""
    with process(url, port, VANGUARD_COOKIE_SECURE="false") as started:
        async with client(port) as http:
            await until_ready(http)
        yield started


async def restarted(
    url: str,
    ann: User,
    port: int,
    hear: Callable[[list[int]], Awaitable[None]],
    last: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """What happens to a listener: three processes, one ends as it should and one is killed, and commits all the while.

    `hear` waits until the listener has heard of commits of these revisions; `last` is done at the third process.
    """
    revision = 0

    async def commit() -> None:
        nonlocal revision
        revision = (await save(ann, "A", mileage=revision))["revision"]

    for ending in (signal.SIGTERM, signal.SIGKILL, None):
        async with serving(url, port) as started:
            await hear([*range(1, revision + 1)])
            await commit()
            await hear([*range(1, revision + 1)])
            if ending is None:
                if last is not None:
                    await last()
                return
            os.killpg(started.pid, ending)
            await gone(started)
        await commit()


# -- Chromium ----------------------------------------------------------------------------------------------------------

CHROMIUM = find_chromium()
LOGIN = """
fetch("/api/auth/login", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(%s)})
    .then(async (response) => [response.status, document.cookie])
"""
LISTEN = """
window.told = [], window.opened = 0, window.ended = [];
window.events = new EventSource("/api/v1/orgs/acme/events");
events.addEventListener("open", (event) => { opened += event.data ? 1 : 0; });
events.addEventListener("reset", (event) => told.push(event.data));
events.addEventListener("end", (event) => ended.push(JSON.parse(event.data).reason));
events.onmessage = (event) => told.push(JSON.parse(event.data).revision);
window.until = (holds) => new Promise((resolve, reject) => {
    const began = Date.now();
    const look = setInterval(() => {
        if (holds()) { clearInterval(look); resolve(true); }
        if (Date.now() - began > 40000) { clearInterval(look); reject(JSON.stringify([told, opened, ended])); }
    }, 20);
});
until(() => opened === 1)
"""


@pytest.mark.slow("a real browser comes back when it wants to, three times, the last time to be told to stop")
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: on Debian, apt install chromium")
async def test_the_event_source_of_chromium(database_url: str, world: World, ann: User, short_dir: Path) -> None:
    """Given a login in the browser, then it hears of what happens, comes back by itself after the server was started
    again, with nothing lost or repeated, and stops for good once it may not listen any more.
    """
    assert CHROMIUM is not None
    database, email, port = world.runtime.database, "v@demo.example", free_port()
    viewer = await add_account(database, email=email, name="V", password=PASSWORD, roles={"acme": Role.VIEWER})
    async with running(CHROMIUM, short_dir / "profile") as browser:
        page: Page | None = None

        async def hear(revisions: list[int]) -> None:
            nonlocal page
            if page is None:
                page = await browser.open(f"http://127.0.0.1:{port}/schema")
                login = LOGIN % json.dumps({"email": email, "password": PASSWORD})
                assert await page.run(login) == [200, ""], "no script sees the cookie"
                assert await page.run(LISTEN)
            assert await page.run(f"until(() => told.length >= {len(revisions)})")
            assert await page.run("told") == revisions

        async def last() -> None:
            assert page is not None
            assert await page.run("[opened, ended, events.readyState]") == [3, ["shutdown"], 1]
            await world.db.execute("DELETE FROM membership WHERE account_id = $1", viewer.id)
            assert await page.run("until(() => events.readyState === EventSource.CLOSED)")
            assert await page.run("ended") == ["shutdown", "access_revoked"]

        await restarted(database_url, ann, port, hear, last)
    assert len(public(await happened(ann))) == 5


# -- npm's eventsource -------------------------------------------------------------------------------------------------

NODE, NPM = shutil.which("node"), shutil.which("npm")
PROGRAM = """
import { EventSource } from "eventsource";
const [address, token] = process.argv.slice(2);
const events = new EventSource(address, {
    fetch: (input, init) => fetch(input, {...init, headers: {...init.headers, Authorization: `Bearer ${token}`}}),
});
const tell = (kind) => (event) => console.log(JSON.stringify([kind, JSON.parse(event.data)]));
events.addEventListener("uptodate", tell("uptodate"));
events.addEventListener("reset", tell("reset"));
events.onmessage = tell("event");
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A directory in which the package is installed, with a program that listens by it."""
    if NODE is None or NPM is None:
        pytest.skip("node and npm are not installed: on Debian, apt install nodejs npm")
    command = [NPM, "install", "--no-audit", "--no-fund", "--ignore-scripts", "eventsource@4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install eventsource here: {done.stderr.strip()[:200]}")
    (tmp_path / "listen.mjs").write_text(PROGRAM)
    return tmp_path


async def test_the_event_source_of_npm(database_url: str, world: World, ann: User, package: Path) -> None:
    """The same with a token in the header, and Last-Event-ID from a program."""
    assert NODE is not None
    port, bob = free_port(), await world.user("bob")
    command = [NODE, "listen.mjs", f"http://127.0.0.1:{port}/api/v1/orgs/acme/events", bob.token]
    told: list[int] = []
    listener: subprocess.Popen[str] | None = None

    async def line() -> tuple[str, Any]:
        assert listener is not None
        assert listener.stdout is not None
        kind, data = json.loads(await asyncio.to_thread(listener.stdout.readline))
        assert kind != "reset"
        return kind, data

    with ExitStack() as stack:

        async def hear(revisions: list[int]) -> None:
            nonlocal listener
            if listener is None:
                listener = stack.enter_context(child(*command, stdout=subprocess.PIPE, cwd=package))
                assert (await line())[0] == "uptodate"
            async with asyncio.timeout(LIMIT):
                while len(told) < len(revisions):
                    kind, data = await line()
                    told.extend([data["revision"]] if kind == "event" else [])
            assert told == revisions

        await restarted(database_url, ann, port, hear)
    assert told == [1, 2, 3, 4, 5]
