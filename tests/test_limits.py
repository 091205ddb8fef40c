"""Tests that would hang: each fails where it waits, and the others go on."""

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.children import child

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PLUGINS = "-p anyio -p timeout -p xdist -p no:cacheprovider".split()
CONFTEST = """
import asyncio, pytest
from tests.support import limits
from tests.support.limits import pytest_pyfunc_call, pytest_runtest_teardown

@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"
"""
HANGING = """
import asyncio, subprocess, time, pytest

@pytest.fixture
async def open_until_the_end():
    yield
    print("it was closed")

@pytest.fixture
def never_there():
    time.sleep(600)

def test_a_child_that_does_not_end():
    with subprocess.Popen(["sleep", "600"]) as child:
        try:
            child.wait()
        finally:
            child.kill()

async def test_an_event_that_never_comes(open_until_the_end):
    await asyncio.Event().wait()

async def test_a_loop_that_stands_still(open_until_the_end):
    time.sleep(600)

def test_a_server_that_never_starts(never_there):
    pass

async def test_the_next_one():
    await asyncio.sleep(0)

@pytest.mark.timeout(30)
async def test_one_that_has_a_limit_of_its_own():
    await asyncio.sleep(1)
"""
STUBBORN = """
import signal, time, pytest

@pytest.fixture
def never_gone():
    yield
    time.sleep(600)

def test_whoever_hears_no_alarm():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(600)

def test_whoever_does_not_let_go(never_gone):
    assert False

def test_the_next_one():
    pass
"""


def run(folder: Path, tests: str, conftest: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """pytest over these tests, with the project's settings but for shorter limits."""
    (folder / "conftest.py").write_text(CONFTEST + conftest)
    (folder / "test_them.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), *PLUGINS]
    environment = os.environ | {"COLUMNS": "200", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [*command, *options, str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100
    )


def test_a_test_that_would_hang_fails_where_it_waits_and_the_next_one_runs(tmp_path: Path) -> None:
    done = run(tmp_path, HANGING, "limits.EARLIER = 0.5", "-o", "timeout=1.5")
    said = done.stdout
    assert "3 failed, 2 passed, 1 error" in said.splitlines()[-1], said + done.stderr
    for waits in ("child.wait()", "await asyncio.Event().wait()", "time.sleep(600)"):
        assert re.search(rf"^> +{re.escape(waits)}$", said, re.MULTILINE), said
    for broken_off in ("a_child_that_does_not_end", "a_loop_that_stands_still", "a_server_that_never_starts"):
        assert f"test_{broken_off} - Failed: Timeout (>1.5s)" in said
    assert "test_an_event_that_never_comes - TimeoutError" in said
    assert said.count("it was closed") == 2


def test_whoever_cannot_be_broken_off_ends_its_process_and_another_goes_on(tmp_path: Path) -> None:
    done = run(tmp_path, STUBBORN, "limits.LETTING_GO = 1.5", "-n", "1", "-o", "faulthandler_timeout=1.5")
    assert "3 failed, 1 passed" in done.stdout.splitlines()[-1], done.stdout + done.stderr
    for test, place in {"hears_no_alarm": "test_whoever_hears_no_alarm", "does_not_let_go": "never_gone"}.items():
        assert f"crashed while running 'test_them.py::test_whoever_{test}'" in done.stdout
        assert f" in {place}\n" in done.stderr


# -- what tests may call -----------------------------------------------------------------------------------------------

WAITS = {"subprocess.run", "subprocess.check_output", "subprocess.check_call", "subprocess.call", "communicate"}
CLIENTS = {f"httpx.{name}" for name in ("Client", "AsyncClient", "get", "post", "request", "stream")}


def unlimited(tree: ast.AST) -> Iterator[int]:
    """Where a call could wait for ever, or for as little as a library thinks enough. What is awaited has the limit of
    its test.
    """
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    awaited = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Await)}
    awaited |= {id(inner) for call in calls if ast.unparse(call.func) == "asyncio.wait_for" for inner in call.args}
    for call in calls:
        name = ast.unparse(call.func)
        last = name.rpartition(".")[2]
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        limited = "timeout" in given and ast.unparse(given["timeout"]) != "None"
        if {name, last} & (WAITS | CLIENTS):
            wrong = not limited and None not in given
        else:
            # Of a thread, a process, a queue. A string's and a dictionary's have something between the brackets.
            bare = last in ("wait", "join", "get") and not call.args and not call.keywords
            wrong = bare and "." in name and name != f"self.{last}"
        if wrong and id(call) not in awaited:
            yield call.lineno


def test_whatever_waits_says_how_long() -> None:
    source = (
        "process.wait()\nqueue.get()\nsubprocess.run(['true'])\nhttpx.Client(timeout=None)\nprocess.wait(5)\nx.get(1)"
    )
    assert sorted(unlimited(ast.parse(source))) == [1, 2, 3, 4]
    found = {file.name: list(unlimited(ast.parse(file.read_text()))) for file in TESTS.rglob("*.py")}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_children_are_started_in_one_place() -> None:
    """One that heeds signals however this process was started, and that leaves none behind."""
    starts = re.compile(r"\b(Popen\(|create_subprocess_|os\.fork|os\.spawn|posix_spawn)")
    found = {file.name for file in TESTS.rglob("*.py") if starts.search(file.read_text())}
    assert found - {Path(__file__).name} == {"children.py"}


@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.SIG_DFL])
def test_children_heed_signals_that_this_process_ignores(before: signal.Handlers) -> None:
    here = {each: signal.signal(each, before) for each in (signal.SIGINT, signal.SIGHUP)}
    try:
        for each in here:
            with child("sleep", "600") as process:
                process.send_signal(each)
                assert process.wait(60) == -each
            assert signal.getsignal(each) is before
    finally:
        for each, handler in here.items():
            signal.signal(each, handler)


def test_whatever_is_slow_says_what_it_buys() -> None:
    """In a sentence, and nothing is marked without one."""
    marks = 0
    for file in TESTS.rglob("*.py"):
        tree = ast.parse(file.read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        said = [call.args[0] for call in calls if ast.unparse(call.func) == "pytest.mark.slow" and len(call.args) == 1]
        reasons = [each.value for each in said if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        named = sum(
            isinstance(node, ast.Attribute) and ast.unparse(node) == "pytest.mark.slow" for node in ast.walk(tree)
        )
        assert len(reasons) == named, file.name
        assert all(len(reason.split()) > 5 for reason in reasons), file.name
        marks += named
    assert marks
