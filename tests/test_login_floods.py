"""An honest login while 200 forged ones are sent at once: to a real server behind a proxy, with real hashes."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from app.accounts import add_account
from app.base.exact_json import encode
from tests.support.serving import Api, serving

pytestmark = pytest.mark.timed

ANN = "ann@demo.example"
PASSWORD = "rusty lantern over water"  # the server lets nobody in by one of the documentation
FORGED = 200
HOME, NEW = "198.51.100.1", "198.51.100.2"
LIMIT = 60.0
# Seconds that an honest login may take during a flood; on a machine that does other work, so many undisturbed ones.
PROMPT = 2.0
UNDISTURBED = 8

# What the n-th forged login says: its address and its email.
FLOODS: dict[str, Callable[[int], tuple[str, str]]] = {
    "from one address to many accounts": lambda n: ("192.0.2.1", f"{n}@x.example"),
    "from one address to one account": lambda n: ("192.0.2.1", "x@x.example"),
    "from many addresses to many accounts": lambda n: (f"192.0.2.{n}", f"{n}@x.example"),
    "from many addresses to the honest account": lambda n: (f"192.0.2.{n}", ANN),
    "from the honest address to many accounts": lambda n: (HOME, f"{n}@x.example"),
}


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    """A server behind a proxy, and ann, who has logged in from home before."""
    async with serving(database_url, VANGUARD_TRUSTED_PROXIES="127.0.0.1,10.0.0.0/8") as api:
        await add_account(api.world.runtime.database, email=ANN, name="Ann", password=PASSWORD)
        assert await enter(api, HOME, ANN, PASSWORD) == 200
        yield api


async def enter(api: Api, address: str, email: str, password: str) -> int:
    """Log in through a proxy, as a client at the address that claims to be another. A connection of one's own, with as
    little work on this side as can be: it is the server that is measured.
    """
    body = encode({"email": email, "password": password})
    head = (
        "POST /api/auth/login HTTP/1.1\r\nHost: vanguard.test\r\nConnection: close\r\n"
        "Content-Type: application/json\r\n"
        f"X-Forwarded-For: 203.0.113.77, {address}, 10.0.0.7\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(head.encode() + body)
        status = int((await reader.readline()).split()[1])
        writer.close()
    return status


async def flooded(api: Api, flood: str, address: str) -> tuple[int, bool, Counter[int]]:
    """What ann's login from an address comes to while 200 forged ones are under way, whether it is prompt, and what
    they got.
    """
    began = time.perf_counter()
    assert await enter(api, HOME, ANN, PASSWORD) == 200
    alone = time.perf_counter() - began
    forged = [asyncio.ensure_future(enter(api, *FLOODS[flood](n), "wrong password")) for n in range(FORGED)]
    # The server has begun with them, and is not through.
    await asyncio.wait(forged, return_when=asyncio.FIRST_COMPLETED)
    began = time.perf_counter()
    status = await enter(api, address, ANN, PASSWORD)
    took = time.perf_counter() - began
    codes = Counter(await asyncio.gather(*forged))
    over = time.perf_counter() - began
    print(f"{flood}: honest {status} after {took:.2f} s ({alone:.2f} s alone); forged {dict(codes)}, {over:.2f} s")
    return status, took < max(PROMPT, UNDISTURBED * alone), codes


@pytest.mark.parametrize("flood", FLOODS)
async def test_an_honest_login_is_let_in_during_a_flood(api: Api, flood: str) -> None:
    """Promptly, from home; and nobody is locked out afterwards."""
    status, prompt, codes = await flooded(api, flood, HOME)
    assert status == 200
    assert prompt
    assert set(codes) <= {401, 429, 503}
    assert codes[401] <= 20, "the others cost nothing"
    failed = await api.world.db.fetchval("SELECT count(*) FROM audit WHERE action = 'login.failed'")
    assert failed == codes[401], "and leave nothing in the audit"
    assert await enter(api, HOME, ANN, PASSWORD) == 200


@pytest.mark.parametrize("flood", ["from one address to many accounts", "from one address to one account"])
async def test_somebody_new_is_let_in_during_a_flood_of_one_address(api: Api, flood: str) -> None:
    status, prompt, _ = await flooded(api, flood, NEW)
    assert status == 200
    assert prompt
