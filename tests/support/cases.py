"""A round on another PostgreSQL than ours asks whether that does the same with our statements: of a test with many
cases the first, the middle and the last do, and of slow ones none, which are about processes.

Whole stay tests that ask no database, and those of what servers differ in: plans, stories against a model,
migrations, roles, upgrades.
"""

import os
import re

import pytest

WHOLE = re.compile(r"\w+_(plans|model)|test_migrations|test_roles|test_upgrade(_\w+)?")  # files


def pytest_configure(config: pytest.Config) -> None:
    """Few cases with the programs of another PostgreSQL, all with ours."""
    if "VANGUARD_TEST_PG_BINDIR" in os.environ:
        config.pluginmanager.register(Few())


class Few:
    """Three cases of each test at most; of slow ones none, unless `-m` names them."""

    @pytest.hookimpl(trylast=True)  # behind -m and -k: three of what they leave
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        cases: dict[str, list[pytest.Item]] = {}
        for item in items:
            if item.get_closest_marker("database") and not WHOLE.fullmatch(item.path.stem):
                cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
        kept = {item for each in cases.values() for item in few(each)}
        if "slow" not in config.option.markexpr:
            kept = {item for item in kept if not item.get_closest_marker("slow")}
        left = {item for each in cases.values() for item in each} - kept
        if left:
            config.hook.pytest_deselected(items=[item for item in items if item in left])
            items[:] = [item for item in items if item not in left]


def few(cases: list[pytest.Item]) -> list[pytest.Item]:
    """The first, the middle and the last."""
    return [cases[place] for place in sorted({0, len(cases) // 2, len(cases) - 1})]
