"""The log: one JSON object a line, what a line of a request holds, and what none ever holds."""

import json
import os
import subprocess
import sys
from typing import Any

import structlog
from structlog.testing import LogCapture

from tests.support.world import User, World, line

SCRIPT = """
import logging, structlog
from app.base.logs import configure_logs

configure_logs({level!r}, {style!r})
log = structlog.get_logger("app.here")
structlog.contextvars.bind_contextvars(request_id="r-1")
log.debug("too quiet")
log.info("one", text="é\\n", thing=object, odd="\\ud800")
logging.getLogger("elsewhere").warning("two %s", "words")
secret = "SECRET"
try:
    raise ValueError("three")
except ValueError:
    log.exception("bad", rows=3)
"""


def logged(level: str = "info", style: str = "json") -> str:
    """What a process writes to stderr."""
    script = SCRIPT.format(level=level, style=style)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == ""
    return done.stderr


def test_a_line_is_a_json_object() -> None:
    """Ours and those of the standard library alike."""
    one, two, three = map(json.loads, logged().splitlines())
    for entry, name, level in ((one, "app.here", "info"), (two, "elsewhere", "warning"), (three, "app.here", "error")):
        assert (entry["logger"], entry["level"], entry["request_id"]) == (name, level, "r-1")
        assert entry["timestamp"].endswith("Z")
    assert one.keys() == {"event", "level", "logger", "odd", "request_id", "text", "thing", "timestamp"}
    assert (one["event"], one["text"], one["thing"], one["odd"]) == ("one", "é\n", "<class 'object'>", "\ud800")
    assert two["event"] == "two words"
    assert (three["event"], three["rows"]) == ("bad", 3)


def test_a_traceback_has_no_locals() -> None:
    told = logged()
    assert "ValueError: three" in told
    assert "SECRET" not in told
    assert "SECRET" not in logged(style="console")


def test_the_level_counts() -> None:
    assert [json.loads(entry)["event"] for entry in logged("error").splitlines()] == ["bad"]
    assert json.loads(logged("debug").splitlines()[0])["event"] == "too quiet"


def test_a_person_reads_text() -> None:
    told = logged(style="console")
    assert "one" in told
    assert "two words" in told
    assert not told.startswith("{")


def test_a_process_goes_on_where_nobody_reads_its_log() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    script = SCRIPT.format(level="info", style="json") + "print('done')"
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=theirs, text=True, check=False, timeout=60
        )
    finally:
        os.close(theirs)
    assert done.stdout == "done\n"


async def entries(world: World, request: str, **headers: str) -> list[dict[str, Any]]:
    """What a request logs."""
    capture = LogCapture()
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
    try:
        await world.http.get(request, headers=headers)
    finally:
        structlog.configure(processors=before)
    return [dict(entry) for entry in capture.entries]


async def test_a_request_has_a_line(world: World, ann: User) -> None:
    await world.mirror({"A": line(equipment="SECRET")})
    path = "/api/v1/orgs/acme/datasets/pfa/rows"
    headers = {"Authorization": f"Bearer {ann.token}", "X-Request-ID": "r-2"}
    (entry,) = await entries(world, f"{path}?equipment=SECRET", **headers)
    assert entry.pop("milliseconds") >= 0
    assert entry == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "organization": "acme",
        "request_id": "r-2",
        "route": "/api/v1/orgs/{org}/datasets/{dataset}/rows",
        "status": 200,
        "user": "ann",
    }


async def test_every_line_of_a_request_has_its_id(world: World) -> None:
    found = await entries(world, "/api/auth/me", Authorization="Bearer forged", **{"X-Request-ID": "r-3"})
    assert [(entry["event"], entry["request_id"]) for entry in found] == [
        ("token refused", "r-3"),
        ("request", "r-3"),
    ]
    assert "forged" not in repr(found)
    (entry,) = await entries(world, "/nowhere", **{"X-Request-ID": "not an id: {}"})
    assert len(entry["request_id"]) == 32
    assert (entry["route"], entry["method"], entry["status"]) == ("unknown", "unknown", 404)
