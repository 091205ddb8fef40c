"""The API as a process of its own, with the contracts of the tests: `python -m tests.support.serving`.

What is about one connection, or about a server that goes away, needs a real one.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import httpx
import msgspec
from granian import Granian
from granian.constants import Interfaces

from app import main
from app.base.clock import now
from app.contracts import PFA
from app.web.middleware import Middleware
from tests.support.children import child, kill
from tests.support.world import CONTRACTS, FLEET, LONGEST_TTL, SECRET, User, World, open_world

LEDGER = "VANGUARD_TESTS_LEDGER"  # set: the fleet has a system of record
ALONE = "VANGUARD_TESTS_ALONE"  # set: pfa has none
PORT = "VANGUARD_TESTS_PORT"


def serve() -> Middleware:
    """The application as it is served, but with these contracts."""
    ledger, pems = "ledger" if LEDGER in os.environ else None, None if ALONE in os.environ else PFA.upstream
    upstreams = {FLEET.name: ledger, PFA.name: pems}
    vars(main)["BUILT_IN"] = tuple(msgspec.structs.replace(each, upstream=upstreams[each.name]) for each in CONTRACTS)
    return main.serve()


class Api:
    """A server at an address that stays the same, started and stopped at will."""

    def __init__(self, database_url: str, world: World, **environment: str) -> None:
        self.world = world
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("VANGUARD_")}
        given = {"DATABASE_URL": database_url, "VANGUARD_SECRET": SECRET, PORT: str(self.port)}
        given["VANGUARD_MAX_TOKEN_TTL"] = str(LONGEST_TTL)
        self._environment = clean | given | environment
        self._running: ExitStack | None = None
        self._process: subprocess.Popen[str] | None = None

    async def start(self) -> None:
        """Serve, and return once it does."""
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = (sys.executable, "-m", "tests.support.serving")
        self._running = ExitStack()
        process = self._process = self._running.enter_context(
            child(*command, env=self._environment, start_new_session=True, **quiet)
        )
        async with httpx.AsyncClient(timeout=60) as http, asyncio.timeout(60):
            while True:
                assert process.poll() is None, "it has ended"
                try:
                    if (await http.get(f"{self.url}/health/ready")).status_code == 200:
                        return
                except httpx.TransportError:
                    await asyncio.sleep(0.02)  # nothing listens yet, and nothing tells when

    async def stop(self) -> None:
        """SIGTERM, as an operator does."""
        if self._running is not None:
            await asyncio.to_thread(self._running.close)
            self._running = self._process = None

    async def kill(self) -> None:
        """SIGKILL: it says nothing to anybody."""
        assert self._process is not None
        kill(self._process)
        await self.stop()

    @property
    def pid(self) -> int:
        """The process that was started; it has others."""
        assert self._process is not None
        return self._process.pid

    async def ask(self, user: User, method: str, path: str, **options: Any) -> httpx.Response:
        """A request about the dataset pfa, over a connection of its own."""
        headers = {"Authorization": f"Bearer {user.token}"}
        async with httpx.AsyncClient(base_url=self.url, timeout=60, headers=headers) as http:
            return await http.request(method, f"/api/v1/orgs/acme/datasets/pfa/{path}", **options)

    def freeze(self) -> None:
        """It is there, and says nothing."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)


@asynccontextmanager
async def serving(database_url: str, **environment: str) -> AsyncIterator[Api]:
    """A served world with the organization acme; its clock has the real time, as the server has."""
    async with open_world(database_url) as world:
        world.clock.at = now()
        await world.organization("acme")
        api = Api(database_url, world, **environment)
        await api.start()
        try:
            yield api
        finally:
            await api.stop()


def token_of(user: User) -> Callable[[], str]:
    """What a client is given to ask for a token."""
    return lambda: user.token


if __name__ == "__main__":
    Granian(
        "tests.support.serving:serve",
        factory=True,
        interface=Interfaces.ASGI,
        address="127.0.0.1",
        port=int(os.environ[PORT]),
        websockets=False,
        backpressure=4096,
    ).serve()
