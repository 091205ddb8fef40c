"""What listens, and for whom: nothing with passwords that everybody knows beyond this machine, and metrics for whoever
has their token.
"""

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from app.base.errors import ConfigurationError
from app.base.listening import EXPOSE, refuse_exposure
from app.cli import main
from app.worker.metrics import serving_metrics
from tests.support.children import VANGUARD, child
from tests.support.listeners import listening_at
from tests.support.streams import free_port
from tests.support.world import SECRET, World, asgi, open_world

PUBLIC = ["0.0.0.0", "::", "10.0.0.7", "192.0.2.1", "2001:db8::1", "vanguard.example", "127.0.0.1.example", " ", "*"]
LOCAL = ["127.0.0.1", "127.3.2.1", "::1", "localhost"]
TOKEN = "9d1cf07ab2e84c63b5a0d7e9f1324c68"


# -- passwords that everybody knows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", PUBLIC)
def test_the_demonstration_is_not_served_to_others(host: str, short_dir: Path) -> None:
    """Whatever the environment says; and nothing is made before that is known."""
    arguments = ["dev", "--port", str(free_port()), "--data-dir", str(short_dir / "data")]
    said = {"VANGUARD_HOST": host, "VANGUARD_EXPOSE_KNOWN_PASSWORDS": "1", "VANGUARD_DEV_EXPOSE_KNOWN_PASSWORDS": "1"}
    refused = CliRunner(env=said).invoke(main, arguments)
    assert refused.exit_code == 2
    assert EXPOSE in refused.output
    assert "VANGUARD_HOST" in refused.output
    assert not (short_dir / "data").exists()


@pytest.mark.parametrize("host", PUBLIC)
def test_the_simulator_is_not_served_to_others(host: str) -> None:
    """Not with passwords of one's own, either: whoever reaches it steers it without one."""
    own = {f"VANGUARD_PEMS_SIM_{name}": TOKEN for name in ("USER", "PASSWORD", "API_KEY", "TOKEN")}
    for said in ({}, own, {"VANGUARD_PEMS_SIM_EXPOSED": "1"}):
        refused = CliRunner(env=said).invoke(main, ["pems-sim", "--host", host, "--port", "0"])
        assert refused.exit_code == 2
        assert EXPOSE in refused.output


@pytest.mark.parametrize("host", LOCAL)
def test_this_machine_is_nobody_else(host: str) -> None:
    refuse_exposure(host, "--host")


@contextmanager
def simulated(*options: str) -> Iterator["subprocess.Popen[str]"]:
    """The simulator, once it listens."""
    with child(*VANGUARD, "pems-sim", "--port", "0", "--org", "RIO=1", *options, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("PEMS simulator at ")
        yield process


def test_whoever_says_so_serves_to_others() -> None:
    with simulated() as process:
        assert {host for host, _ in listening_at(process.pid)} == {"127.0.0.1"}
    with simulated("--host", "0.0.0.0", EXPOSE) as process:
        assert {host for host, _ in listening_at(process.pid)} == {"0.0.0.0"}


# -- metrics -----------------------------------------------------------------------------------------------------------


async def asked(world: World, peer: str, **headers: str) -> httpx.Response:
    """GET /metrics from an address; names of headers with underscores."""
    async with httpx.AsyncClient(
        transport=asgi(world.application, client=(peer, 5000)), base_url="http://vanguard.test", timeout=60
    ) as http:
        return await http.get("/metrics", headers={name.replace("_", "-"): text for name, text in headers.items()})


async def test_without_a_token_metrics_are_told_to_this_machine_alone(database_url: str) -> None:
    async with open_world(database_url, trusted_proxies=("127.0.0.1",)) as world:
        for here in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "127.9.9.9"):
            answer = await asked(world, here)
            assert (answer.status_code, "vanguard_request_seconds" in answer.text) == (200, True)
        for elsewhere in ("10.0.0.7", "192.0.2.1", "2001:db8::1", "::ffff:10.0.0.7", ""):
            answer = await asked(world, elsewhere)
            assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN"), elsewhere
            assert "VANGUARD_METRICS_TOKEN" in answer.json()["detail"]
        # A proxy on this machine asks for somebody else, wherever that one claims to be.
        for header in ("X_Forwarded_For", "X_Real_IP", "Forwarded", "Via", "X_Forwarded_Proto", "X_Forwarded_Host"):
            assert (await asked(world, "127.0.0.1", **{header: "127.0.0.1"})).status_code == 403, header


async def test_with_a_token_metrics_are_told_to_whoever_has_it(database_url: str) -> None:
    async with open_world(database_url, metrics_token=TOKEN) as world:
        for scheme in ("Bearer", "bearer"):
            assert (await asked(world, "192.0.2.1", Authorization=f"{scheme} {TOKEN}")).status_code == 200
        ann = await told_token(world)
        for wrong in (
            "",
            f"Bearer {TOKEN[:-1]}",
            f"Bearer {TOKEN}x",
            f"Basic {TOKEN}",
            TOKEN,
            "Bearer",
            f"Bearer {ann}",
        ):
            for peer in ("127.0.0.1", "192.0.2.1"):
                answer = await asked(world, peer, **({"Authorization": wrong} if wrong else {}))
                assert answer.status_code == 401, (peer, wrong)
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                assert "vanguard_request_seconds" not in answer.text
        # And it is good for nothing else.
        assert (await world.http.get("/api/auth/me", headers={"Authorization": f"Bearer {TOKEN}"})).status_code == 401


async def told_token(world: World) -> str:
    """A member's token."""
    await world.organization("acme")
    return (await world.user("ann")).token


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_workers_metrics_have_a_port_of_their_own_and_the_token(host: str) -> None:
    place = f"[{host}]" if ":" in host else host
    with serving_metrics(host, 0, TOKEN) as port, httpx.Client(trust_env=False, timeout=60) as http:
        url = f"http://{place}:{port}"
        for path in ("/metrics", "/", "/x?name[]=y"):
            refused = http.get(url + path)
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert "python_info" not in refused.text
        told = http.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert (told.status_code, "python_info" in told.text) == (200, True)
        for answer in (told, refused):
            assert answer.headers.get_list("Server") == ["vanguard"], "no versions"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-store"
    with serving_metrics(host, 0, None) as port:
        assert httpx.get(f"http://{place}:{port}/metrics", trust_env=False, timeout=60).status_code == 200


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        taken_words = rf"Port {port} at 127\.0\.0\.1 .*VANGUARD_METRICS_PORT"
        with pytest.raises(ConfigurationError, match=taken_words), serving_metrics("127.0.0.1", port, None):
            pass


def test_a_worker_listens_where_it_is_told_to_and_nowhere_else(database_url: str) -> None:
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VANGUARD_")}
    environment |= {"DATABASE_URL": database_url, "VANGUARD_SECRET": SECRET, "VANGUARD_METRICS_PORT": str(port)}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with child(*VANGUARD, "worker", env=environment, **pipes) as process:
        assert process.stderr is not None
        assert any("worker begins" in line for line in process.stderr)
        assert listening_at(process.pid) == {("127.0.0.1", port)}
        process.terminate()
        process.stderr.read()
        assert process.wait(60) == 0


async def test_no_answer_tells_versions_in_its_head(world: World) -> None:
    """What is told is told in a body, to whoever asks for it."""
    answers = [await world.http.get(path) for path in ("/health", "/nope", "/api/auth/me", "/schema")]
    for answer in answers:
        for name, value in answer.headers.items():
            assert not re.search(r"python|granian|litestar|uvicorn|\d+\.\d+\.\d+", value, re.IGNORECASE), (name, value)
