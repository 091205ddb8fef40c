"""The shipped proxy in front of the API, where nginx is on the machine."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from benchmarks.api import ROOT, end
from benchmarks.client import HOST

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
PATIENCE = 20.0
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@asynccontextmanager
async def proxied(upstream: int, port: int) -> AsyncIterator[None]:
    """The proxy at the port, as it is shipped but for addresses; nginx has to be there."""
    assert NGINX is not None
    with tempfile.TemporaryDirectory(prefix="vanguard-bench-") as folder:
        places = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in TEMPORARY)
        conf = (ROOT / "proxy" / "nginx.conf").read_text(encoding="utf-8")
        for old, new in {
            "server api:8000;": f"server {HOST}:{upstream};",
            "listen 8000 ": f"listen {HOST}:{port} ",
            "\nhttp {\n": f"\nhttp {{\n{places}",
            "/dev/stdout": f"{folder}/stdout",
        }.items():
            assert conf.count(old) == 1, old
            conf = conf.replace(old, new)
        file = Path(folder, "nginx.conf")
        await asyncio.to_thread(file.write_text, conf, encoding="utf-8")
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            NGINX, "-p", folder, "-c", str(file), "-g", f"daemon off; pid {folder}/pid;", stdout=quiet, stderr=quiet
        )
        try:
            await _listens(port)
            yield
        finally:
            await end(process)


async def _listens(port: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection(HOST, port)
                writer.close()
                return
            await asyncio.sleep(0.02)
