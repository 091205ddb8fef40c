"""A port belongs to one service, its processes end with it, and connections that say nothing end."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from app.base.listening import is_public
from tests.support.children import VANGUARD, child
from tests.support.streams import LIMIT, free_port, until_ready
from tests.support.world import SECRET


@contextmanager
def service(url: str, port: int, **settings: str) -> Iterator["subprocess.Popen[str]"]:
    """`vanguard serve` at the port; what it says can be read."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VANGUARD_")}
    environment |= {"DATABASE_URL": url, "VANGUARD_SECRET": SECRET, "VANGUARD_PORT": str(port), **settings}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with child(*VANGUARD, "serve", env=environment, start_new_session=True, **pipes) as started:
        yield started


async def ready(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT) as http:
        await until_ready(http)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(pids: list[int]) -> None:
    async with asyncio.timeout(LIMIT):
        while any(map(runs, pids)):  # noqa: ASYNC110 - nothing tells of the end of somebody else's child
            await asyncio.sleep(0.02)


async def refuses(port: int) -> None:
    """Until nobody listens: the last thread of a process may close its sockets after the first has ended."""
    async with asyncio.timeout(LIMIT):
        with suppress(ConnectionRefusedError, ConnectionResetError):
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_killed_service_takes_its_processes_along(database_url: str, workers: str) -> None:
    """And the port is free again."""
    port = free_port()
    with service(database_url, port, VANGUARD_WORKERS=workers) as first:
        await ready(port)
        processes = children(first.pid)
        assert len(processes) >= int(workers)
        os.kill(first.pid, signal.SIGKILL)
        await gone(processes)
        await refuses(port)
    with service(database_url, port):
        await ready(port)


async def test_a_killed_process_of_a_service_is_replaced(database_url: str) -> None:
    port = free_port()
    with service(database_url, port) as first:
        await ready(port)
        before = children(first.pid)
        os.kill(before[-1], signal.SIGKILL)
        await gone(before[-1:])
        await ready(port)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_two_services_do_not_share_a_port(database_url: str, host: str) -> None:
    """With another secret half of the answers would be 401."""
    port = free_port()
    with service(database_url, port):
        await ready(port)
        with service(database_url, port, VANGUARD_SECRET=SECRET[::-1], VANGUARD_HOST=host) as second:
            said, _ = await asyncio.to_thread(second.communicate, timeout=LIMIT)
        assert second.returncode == 2
        assert f"Port {port} at {host} cannot be had (Address already in use)" in said
        assert "VANGUARD_PORT" in said
        assert "Traceback" not in said
        await ready(port)


async def test_of_two_that_begin_at_once_one_is_told(database_url: str) -> None:
    port = free_port()
    with service(database_url, port) as one, service(database_url, port) as other:
        await ready(port)
        async with asyncio.timeout(LIMIT):
            while one.poll() is None and other.poll() is None:  # noqa: ASYNC110 - nothing tells of an end
                await asyncio.sleep(0.02)
        await ready(port)
    assert sorted(each.returncode == 2 for each in (one, other)) == [False, True]


async def test_a_port_of_somebody_else_is_told(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, service(database_url, taken.getsockname()[1]) as second:
        said, _ = await asyncio.to_thread(second.communicate, timeout=LIMIT)
    assert (second.returncode, "cannot be had" in said) == (2, True)


@pytest.mark.parametrize(
    ("host", "public"),
    [("127.0.0.1", False), ("127.8.0.1", False), ("::1", False), ("localhost", False), ("0.0.0.0", True),
     ("::", True), ("10.0.0.7", True), ("plan.example", True)],
)  # fmt: skip
def test_what_others_reach_is_public(host: str, public: bool) -> None:
    assert is_public(host) == public


@pytest.mark.parametrize(("proxies", "warned"), [("", True), ("10.0.0.0/8", False)])
async def test_a_service_in_public_says_that_it_has_no_proxy(database_url: str, proxies: str, warned: bool) -> None:
    port = free_port()
    settings = {"VANGUARD_HOST": "0.0.0.0", "VANGUARD_TRUSTED_PROXIES": proxies}
    with service(database_url, port, **settings) as started:
        await ready(port)
        started.send_signal(signal.SIGTERM)
        said, _ = await asyncio.to_thread(started.communicate, timeout=LIMIT)
    assert ("no proxy in front" in said) == warned


# -- connections -------------------------------------------------------------------------------------------------------

SILENCES = {
    "nothing at all": b"",
    "half a line": b"GET /heal",
    "half a head": b"GET /health HTTP/1.1\r\nHost: x\r\n",
    "nothing after an answer": b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
}


async def ends(port: int, said: bytes) -> float:
    """Seconds until the server ends a connection that says this, and no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.monotonic()
    writer.write(said)
    try:
        async with asyncio.timeout(LIMIT):
            while await reader.read(65_536):
                pass
    except ConnectionResetError:
        pass
    writer.close()
    return time.monotonic() - began


@pytest.mark.timed
async def test_connections_that_say_nothing_end(database_url: str) -> None:
    port = free_port()
    with service(database_url, port, VANGUARD_HEAD_TIMEOUT="1"):
        await ready(port)
        found = await asyncio.gather(*(ends(port, said) for said in SILENCES.values()))
    assert all(0.5 < seconds < 8 for seconds in found), dict(zip(SILENCES, found, strict=True))


async def test_a_head_that_drips_ends(database_url: str) -> None:
    """A byte now and then does not prolong it."""
    port = free_port()
    with service(database_url, port, VANGUARD_HEAD_TIMEOUT="1"):
        await ready(port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        ended = asyncio.ensure_future(reader.read())
        async with asyncio.timeout(LIMIT):
            while not ended.done():
                writer.write(b"X-A: b\r\n")
                await asyncio.wait([ended], timeout=0.1)
        writer.close()


async def test_http_2_is_spoken_where_it_is_wanted(database_url: str) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
    for wanted, spoken in (("false", False), ("true", True)):
        port = free_port()
        with service(database_url, port, VANGUARD_HTTP2=wanted):
            await ready(port)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(preface)
            async with asyncio.timeout(LIMIT):
                answer = await reader.read(9)
                writer.close()
                await writer.wait_closed()
            # A frame of settings, or the refusal of a line that is none.
            assert (answer[3:4] == b"\x04") == spoken, answer
