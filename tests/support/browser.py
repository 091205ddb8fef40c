"""A headless Chromium, spoken to over a pipe in the protocol of its developer tools: no driver, no port."""

import asyncio
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.children import child

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LIMIT = 60.0  # seconds that an answer may take
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def find_chromium() -> str | None:
    """Its program, as Debian and others call it."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """A page that is open, and what runs in it."""

    def __init__(self, browser: "Browser", session: str):
        self._browser, self._session = browser, session

    async def run(self, script: str) -> Any:
        """The value of an expression, awaited where it is a promise; fails where that throws."""
        wanted = {"expression": script, "awaitPromise": True, "returnByValue": True}
        answer = await self._browser.ask("Runtime.evaluate", self._session, **wanted)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")


class Browser:
    """A running one."""

    def __init__(self, reader: asyncio.StreamReader, writer: int):
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count(1)

    async def open(self, address: str) -> Page:
        """A new page, once it is there."""
        target = (await self.ask("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.ask("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        await self.ask("Page.enable", session)
        await self.ask("Page.navigate", session, url=address)
        await self._told("Page.loadEventFired")
        return Page(self, session)

    async def ask(self, method: str, session: str | None = None, **params: Any) -> Any:
        """The answer to a command."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while (answer := await self._next()).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    async def _told(self, event: str) -> None:
        while (await self._next()).get("method") != event:
            pass

    async def _next(self) -> dict[str, Any]:
        async with asyncio.timeout(LIMIT):
            message: dict[str, Any] = json.loads((await self._reader.readuntil(b"\0"))[:-1])
            return message


@asynccontextmanager
async def running(program: str, directory: Path) -> AsyncIterator[Browser]:
    """Chromium with a profile of its own. It reads commands from descriptor 3, and answers at 4."""
    commands, to_browser = os.pipe()
    from_browser, answers = os.pipe()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    flags += ["--remote-debugging-pipe", f"--user-data-dir={directory}"]
    shell = ["sh", "-c", f'exec "$@" 3</dev/fd/{commands} 4>/dev/fd/{answers}', "sh", program, *flags]
    reader = asyncio.StreamReader(limit=2**24)
    protocol = asyncio.StreamReaderProtocol(reader)
    with child(*shell, pass_fds=(commands, answers), start_new_session=True, **QUIET):
        os.close(commands)
        os.close(answers)
        with os.fdopen(from_browser, "rb") as pipe:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
            browser = Browser(reader, to_browser)
            try:
                yield browser
            finally:
                with suppress(AssertionError, OSError, TimeoutError, asyncio.IncompleteReadError):
                    await browser.ask("Browser.close")
                transport.close()
                os.close(to_browser)
