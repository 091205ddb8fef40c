"""The PEMS of `vanguard dev`: a simulator over the demonstration's lines, and the file that leads a worker to it.

What has to last is in the folder `pems` of the data directory: the password, how many lines there were in the
beginning, and the simulator's journal.
"""

import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.base import exact_json
from app.base.errors import ConfigurationError

HOST = "127.0.0.1"
USER = "vanguard"
PULL_EVERY = 60  # seconds: who edits a line in the simulator does not want to wait for a quarter of an hour
OTHER_ROWS = 200
NEIGHBOUR_ROWS = 50  # of DEMO2, which nobody asked for: its code begins as DEMO does


class Pems(NamedTuple):
    """How to start the simulator, where it will be, and the file for workers."""

    arguments: list[str]
    environment: dict[str, str]
    address: str
    upstreams: Path


def prepare(directory: Path, api_port: int, count_rows: Callable[[], int]) -> Pems:
    """Everything but the process. Raises ConfigurationError where the directory cannot be used.

    `count_rows` is asked once in the directory's life: how many lines DEMO has in the beginning.
    """
    with usable():
        (directory / "pems").mkdir(exist_ok=True)
        password = keep(directory / "pems" / "password", lambda: secrets.token_urlsafe(32))
        rows = int(keep(directory / "pems" / "rows", lambda: str(count_rows())))
        port = _free_port(api_port + 1)
        address = f"http://{HOST}:{port}"
        upstreams = directory / "upstreams.json"
        _write(upstreams, _upstreams(address))
    organizations = {"DEMO": f"{rows}:1", "DEMO2": f"{NEIGHBOUR_ROWS}:3", "OTHER": f"{OTHER_ROWS}:2"}
    arguments = ["pems-sim", "--host", HOST, "--port", str(port), "--state", str(directory / "pems" / "journal")]
    for code, lines in organizations.items():
        arguments += ["--org", f"{code}={lines}"]
    credentials = {
        "VANGUARD_PEMS_SIM_USER": USER,
        "VANGUARD_PEMS_SIM_PASSWORD": password,
        "VANGUARD_PEMS_SIM_API_KEY": password,
    }
    return Pems(arguments, credentials, address, upstreams)


@contextmanager
def usable() -> Iterator[None]:
    """What the system refuses inside is told as ConfigurationError, with the file."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be used: {error.strerror}.") from error


def keep(file: Path, make: Callable[[], str]) -> str:
    """The file's text; where there is no such file it is made, once and for this account alone."""
    with suppress(FileNotFoundError):
        return file.read_text(encoding="ascii")
    text = make()
    _write(file, text)
    return text


def _write(file: Path, text: str) -> None:
    """All of it or nothing, whatever happens meanwhile."""
    unfinished = file.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii") as new:
        new.write(text)
    unfinished.replace(file)


def _free_port(wanted: int) -> int:
    """The one that is wanted, or any."""
    for port in (wanted if wanted < 2**16 else 0, 0):
        with suppress(OSError), socket.create_server((HOST, port)) as free:
            return int(free.getsockname()[1])
    raise ConfigurationError(f"There is no free port at {HOST}.")


def _upstreams(address: str) -> str:
    """Times in seconds. The password's file stands beside this one: a worker started by hand finds it, too."""
    entries = [
        {
            "organization": organization,
            "dataset": "pfa",
            "kind": "pems",
            "url": address,
            "tenant": "DEMO",
            "role": "PLANNER",
            "organizations": [code],
            "auth": {"user": USER, "passwordFile": "pems/password"},
            "requestsPerSecond": 0,
            "pullEvery": PULL_EVERY,
            "token": {"read": "pfs_udfchar01", "write": "PFS_UDFCHAR01"},
        }
        for organization, code in {"demo": "DEMO", "other": "OTHER"}.items()
    ]
    return msgspec.json.format(exact_json.encode({"upstreams": entries})).decode() + "\n"
