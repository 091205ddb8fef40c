"""The client is a distribution of its own: built and installed from its wheel, it works where nothing else is."""

import ast
import shutil
import sys
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from tests.test_install import ours, run

CLIENT = Path(__file__).parents[1] / "clients/python"
DEPENDENCIES = {"httpx", "httpx-sse", "msgspec"}
PROGRAM = """
import asyncio, importlib.util, sys
from vanguard_client import LiveTable, MemoryDataSet, RestDataSet, Saved, SqliteDataSet, Unavailable, Vanguard

assert importlib.util.find_spec("app") is None, "the server is here"


async def main():
    backend = MemoryDataSet({"A": {"name": "Anna's"}})
    async with SqliteDataSet(sys.argv[1]) as cache, LiveTable(backend, cache) as table:
        with await table.edit_record("A") as edit:
            edit.name = "Anne's"
            assert await edit.save() == Saved()
    async with Vanguard("http://127.0.0.1:9", token=lambda: "token", attempts=1) as server:
        try:
            await RestDataSet(server, "demo", "pfa").list()
        except Unavailable:
            print(await backend.list())


asyncio.run(main())
"""


def needed(names: Iterable[str]) -> set[str]:
    """These packages, and what they need in turn."""
    found: set[str] = set()
    rest = list(names)
    while rest:
        name = rest.pop()
        if name in found:
            continue
        found.add(name)
        wanted = [Requirement(each) for each in distribution(name).requires or []]
        rest += [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy: what a build leaves behind is not to be in the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = shutil.copytree(
        CLIENT, folder / "client", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    )
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = run(*pip, "--wheel-dir", str(folder), str(sources), cwd=folder, env=ours())
    assert done.returncode == 0, done.stdout
    (built,) = folder.glob("vanguard_client-*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment with the wheel and what it needs. No index is asked: packages are those of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    made = run(sys.executable, "-m", "venv", "--without-pip", str(folder), cwd=folder, env=ours())
    assert made.returncode == 0, made.stdout
    (packages,) = folder.glob("lib/*/site-packages")
    for name in needed(DEPENDENCIES):
        for file in distribution(name).files or []:
            if ".." not in file.parts and file.suffix != ".pyc":
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), packages / file)
    python = folder / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    done = run(*pip, str(wheel), cwd=folder, env=ours())
    assert done.returncode == 0, done.stdout
    return python


def test_the_wheel_has_the_package_and_its_types_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as content:
        names = set(content.namelist())
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        text = content.read(metadata).decode()
    sources = {f"vanguard_client/{file.name}" for file in (CLIENT / "vanguard_client").glob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == {*sources, "vanguard_client/py.typed"}
    assert any(name.endswith("/LICENSE") for name in names)
    required = [
        Requirement(line.removeprefix("Requires-Dist: ")) for line in text.splitlines() if "Requires-Dist" in line
    ]
    assert {each.name for each in required} == DEPENDENCIES
    assert "Requires-Python: >=3.11" in text


def test_it_works_without_the_server(python: Path, tmp_path: Path) -> None:
    done = run(str(python), "-c", PROGRAM, str(tmp_path / "cache.db"), cwd=tmp_path, env=ours())
    assert (done.returncode, done.stdout) == (0, "{'A': {'name': \"Anne's\"}}\n"), done.stdout


def test_only_the_three_packages_are_imported() -> None:
    allowed = {"vanguard_client", *sys.stdlib_module_names, *(name.replace("-", "_") for name in DEPENDENCIES)}
    for file in (CLIENT / "vanguard_client").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module or ""]
            else:
                continue
            assert {name.partition(".")[0] for name in names} <= allowed, file.name


def test_whoever_uses_it_is_told_of_types(python: Path, tmp_path: Path) -> None:
    """By mypy, strictly, against what is installed."""
    (tmp_path / "program.py").write_text(
        "import msgspec\n"
        "from vanguard_client import DataSet, LiveTable, MemoryDataSet\n"
        "class Line(msgspec.Struct):\n"
        "    name: str = ''\n"
        "async def main() -> None:\n"
        "    async with LiveTable(MemoryDataSet(record=Line), MemoryDataSet()) as table:\n"
        "        plain: DataSet[Line] = table\n"
        "        line = await plain.get('A')\n"
        "        reveal_type(line)\n"
        "        await table.insert('A', 7)\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "program.py"]
    done = run(*command, cwd=tmp_path, env=ours())
    assert 'Revealed type is "program.Line | None"' in done.stdout, done.stdout
    assert 'Argument 2 to "insert" of "TypedDataSet" has incompatible type "int"; expected "Line"' in done.stdout
    assert "Found 1 error" in done.stdout, done.stdout
