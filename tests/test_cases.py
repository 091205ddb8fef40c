"""Which cases run on another PostgreSQL than ours."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONFTEST = "from tests.support.cases import pytest_configure\n"
TESTS = """
import pytest

@pytest.mark.database
@pytest.mark.parametrize("case", range(9))
def test_many(case):
    pass

@pytest.mark.database
@pytest.mark.parametrize("case", range(2))
def test_two(case):
    pass

@pytest.mark.database
def test_one():
    pass

@pytest.mark.database
@pytest.mark.slow("something")
def test_slow():
    pass

@pytest.mark.parametrize("case", range(9))
def test_without_a_database(case):
    pass
"""
OTHERS = {"test_two[0]", "test_two[1]", "test_one", *(f"test_without_a_database[{case}]" for case in range(9))}
FEW = OTHERS | {"test_many[0]", "test_many[4]", "test_many[8]"}
ALL = OTHERS | {f"test_many[{case}]" for case in range(9)} | {"test_slow"}
CUT = ("test_rows", "test_plans_of_rows", "test_rolesets")
WHOLE = ("test_plans", "test_rows_plans", "test_model", "test_rows_model", "test_migrations", "test_roles",
         "test_upgrade", "test_upgrade_roles")  # fmt: skip


def collected(folder: Path, bin_dir: str | None, *wanted: str) -> dict[str, set[str]]:
    """The cases that would run of these tests, by file."""
    (folder / "conftest.py").write_text(CONFTEST)
    for name in (*CUT, *WHOLE):
        (folder / f"{name}.py").write_text(TESTS)
    environment = {key: value for key, value in os.environ.items() if key != "VANGUARD_TEST_PG_BINDIR"}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment |= {} if bin_dir is None else {"VANGUARD_TEST_PG_BINDIR": bin_dir}
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder)]
    command += "-p anyio -p timeout -p no:cacheprovider --collect-only -q".split()
    done = subprocess.run(
        [*command, *(wanted or [str(folder)])], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        file, colons, case = line.partition("::")
        if colons:
            found.setdefault(file.removesuffix(".py"), set()).add(case)
    return found


def test_on_another_server_three_cases_run_but_of_what_servers_differ_in(tmp_path: Path) -> None:
    wanted = dict.fromkeys(CUT, FEW) | dict.fromkeys(WHOLE, ALL)
    assert collected(tmp_path, "/elsewhere") == wanted


def test_on_our_own_every_case_runs(tmp_path: Path) -> None:
    assert collected(tmp_path, None) == dict.fromkeys((*CUT, *WHOLE), ALL)


def test_a_case_that_is_asked_for_runs(tmp_path: Path) -> None:
    asked = f"{tmp_path}/test_rows.py::test_many[3]"
    assert collected(tmp_path, "/elsewhere", asked) == {"test_rows": {"test_many[3]"}}


def test_slow_ones_that_are_asked_for_run(tmp_path: Path) -> None:
    found = collected(tmp_path, "/elsewhere", str(tmp_path), "-m", "slow")
    assert found == {name: {"test_slow"} for name in (*CUT, *WHOLE)}
