"""The pins are complete, and the Makefile and the Dockerfile install them as they are.

An index of these tests' own has every pin as an empty package with the requirements of the real one, and a newer
version beside it. `make check-install` (VANGUARD_TEST_INDEX=1) installs the real packages from the real index. Both
take each Python that pyproject.toml names and this machine has.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LISTS = ("dev.txt", "runtime.txt")
PYTHONS = [word.rpartition(" ")[2] for word in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", word)]
NEWER = "9999"
WITHOUT_RESOLVER = "--no-deps --require-hashes"


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# --- the pinned lists


def lines_of(name: str) -> list[str]:
    """A line for each pin, with its hashes."""
    text = re.sub(r"\\\n", "", text_of(f"requirements/{name}"))
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def pins_of(name: str) -> dict[str, Requirement]:
    pins = [Requirement(line.partition(" --hash=")[0]) for line in lines_of(name)]
    return {canonicalize_name(pin.name): pin for pin in pins}


def version_of(pin: Requirement) -> str:
    (only,) = pin.specifier
    assert only.operator == "==", pin
    return only.version


def requirements_of(name: str) -> list[Requirement]:
    """What a package says that it requires, under whatever marker; nothing of one that only other systems install."""
    try:
        return [Requirement(each) for each in distribution(name).requires or []]
    except PackageNotFoundError:
        return []


def wanted_of(name: str) -> list[Requirement]:
    """What pyproject.toml asks of a list."""
    extra = PROJECT["optional-dependencies"]["dev"] if name == "dev.txt" else []
    return [Requirement(each) for each in [*PROJECT["dependencies"], *extra]]


def unsatisfied(wanted: Iterable[Requirement], pins: dict[str, Requirement], python: str) -> set[str]:
    """Of what is wanted, and of all that follows from it: what the pins do not hold."""
    environment = {key: str(value) for key, value in default_environment().items()}
    environment |= {"python_version": python, "python_full_version": f"{python}.0"}
    missing: set[str] = set()
    seen: set[tuple[str, str]] = set()
    rest = list(wanted)
    while rest:
        each = rest.pop()
        name = canonicalize_name(each.name)
        pin = pins.get(name)
        if (
            pin is None
            or (pin.marker is not None and not pin.marker.evaluate(environment))
            or not each.specifier.contains(version_of(pin), prereleases=True)
        ):
            missing.add(str(each))
            continue
        for extra in {"", *each.extras} - {extra for package, extra in seen if package == name}:
            seen.add((name, extra))
            given = {**environment, "extra": extra}
            rest += [one for one in requirements_of(name) if one.marker is None or one.marker.evaluate(given)]
    return missing


@pytest.mark.parametrize("name", LISTS)
def test_every_pin_has_a_version_and_hashes_and_no_address(name: str) -> None:
    lines = lines_of(name)
    assert len(lines) > 40
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; [^/]+?)?\s+(--hash=sha256:[0-9a-f]{64}\s*)+", line), line
    text = text_of(f"requirements/{name}")
    assert not re.search(r"://|file:| /\w|--(extra-)?index-url|--find-links|--trusted-host", text)


def test_the_runtimes_pins_are_those_of_development() -> None:
    assert {" ".join(line.split()) for line in lines_of("runtime.txt")} <= {
        " ".join(line.split()) for line in lines_of("dev.txt")
    }


def test_this_environment_is_the_pinned_one() -> None:
    for name, pin in pins_of("dev.txt").items():
        if pin.marker is None or pin.marker.evaluate():
            assert distribution(name).version == version_of(pin), name


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", LISTS)
def test_the_pins_are_complete(name: str, python: str) -> None:
    """Extras and markers considered: `pip check` knows nothing of extras."""
    assert unsatisfied(wanted_of(name), pins_of(name), python) == set()


def test_a_pin_that_is_not_there_would_be_missed() -> None:
    pins = pins_of("runtime.txt")
    del pins["psycopg-binary"]  # wanted by an extra only
    assert any(each.startswith("psycopg-binary==") for each in unsatisfied(wanted_of("runtime.txt"), pins, PYTHONS[0]))


def test_the_oldest_python_is_the_same_everywhere() -> None:
    oldest = PYTHONS[0]
    assert PROJECT["requires-python"] == f">={oldest}"
    assert f"--python-version {oldest} " in text_of("Makefile")
    assert f"sys.version_info < ({oldest.replace('.', ', ')})" in text_of("Makefile")
    image = re.search(r"^FROM python:(\d\.\d+)-", text_of("Dockerfile"), re.M)
    assert image is not None
    assert image[1] in PYTHONS


# --- who installs them

FILES = sorted(
    file.relative_to(ROOT).as_posix()
    for pattern in ("Makefile", "Dockerfile", ".ci/*", "*.md", "docs/**/*.md", "benchmarks/**/*.md")
    for file in ROOT.glob(pattern)
)


def installations(name: str) -> Iterator[tuple[str, str]]:
    """Each line that calls `pip install`, and what follows it in the file."""
    text = re.sub(r"\\\n\s*", "", text_of(name))
    for match in re.finditer(r"^.*\bpip install\b.*$", text, re.M):
        yield match[0], text[match.end() :]


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_resolved_at_installation(name: str) -> None:
    for line, after in installations(name):
        assert " --no-deps " in line, line
        if "--editable" not in line:
            assert f" {WITHOUT_RESOLVER} -r requirements/" in line, line
            assert re.search(r"\bpip check\b", after if name == "Makefile" else line), f"{line}: nothing checks it"


def test_the_lists_are_installed_where_they_are_said_to_be() -> None:
    found = {name: [line for line, _ in installations(name) if "requirements/" in line] for name in FILES}
    assert {name: len(lines) for name, lines in found.items() if lines} == {
        "Makefile": 1,
        "Dockerfile": 1,
        "docs/operations.md": 1,
    }


# --- an index of this test's own


def write_wheel(folder: Path, name: str, version: str) -> str:
    """A package with no content but the requirements of the installed one of its name; its hash."""
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    try:
        real = distribution(name).metadata
        metadata += [f"Provides-Extra: {extra}" for extra in real.get_all("Provides-Extra", [])]
        metadata += [f"Requires-Dist: {each}" for each in real.get_all("Requires-Dist", [])]
    except PackageNotFoundError:
        pass
    file = folder / f"{stem}-py3-none-any.whl"
    info = f"{stem}.dist-info"
    with ZipFile(file, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_setuptools(folder: Path) -> str:
    """The installed one as a wheel, whole: it installs the project."""
    real = distribution("setuptools")
    file = folder / f"setuptools-{real.version}-py3-none-any.whl"
    with ZipFile(file, "w") as wheel:
        for each in real.files or []:
            if each.suffix != ".pyc" and each.name not in ("INSTALLER", "REQUESTED"):
                wheel.write(str(each.locate()), each.as_posix())
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a simple index with every pin and something newer of each, and of the lists with its hashes."""
    index = tmp_path_factory.mktemp("index")
    hashes = {}
    for name, pin in pins_of("dev.txt").items():
        folder = index / "simple" / name
        folder.mkdir(parents=True)
        pinned = write_setuptools(folder) if name == "setuptools" else write_wheel(folder, name, version_of(pin))
        hashes[name] = pinned
        write_wheel(folder, name, NEWER)
        links = [f'<a href="{file.name}">{file.name}</a>' for file in sorted(folder.glob("*.whl"))]
        (folder / "index.html").write_text("<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>")
    (index / "requirements").mkdir()
    for name in LISTS:
        pins = pins_of(name)
        lines = [f"{pin} --hash=sha256:{hashes[each]}\n" for each, pin in pins.items()]
        (index / "requirements" / name).write_text("".join(lines))
    return index


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what an installation reads."""
    for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE", "alembic.ini"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("app", "sql", "migrations", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture
def pinned(project: Path, index: Path) -> Path:
    """The same with the lists of the tests' own index."""
    shutil.copytree(index / "requirements", project / "requirements", dirs_exist_ok=True)
    return project


# --- what is run

Run = subprocess.CompletedProcess[str]
FOREIGN = ("PYTHON", "VIRTUAL_ENV", "COV", "MAKE", "MFLAGS")


def ours() -> dict[str, str]:
    """What a command is to know: nothing of the environment and of the call of make in which these tests run."""
    return {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}


def with_index(index: Path | None) -> dict[str, str]:
    """The same, with this index and no other setting of pip; None for one that nobody serves."""
    address = "http://127.0.0.1:9/simple" if index is None else (index / "simple").as_uri()
    rest = {key: value for key, value in ours().items() if not key.startswith("PIP_")}
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": address, "PIP_NO_CACHE_DIR": "1", "PIP_RETRIES": "1"}
    return rest | settings | {"NO_PROXY": "*", "no_proxy": "*"}


def run(*command: str, cwd: Path, env: dict[str, str], timeout: float = 100) -> Run:
    """Both outputs in one."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=env,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def make(project: Path, target: str, index: Path | None, python: str = sys.executable) -> Run:
    return run("make", f"PYTHON={python}", target, cwd=project, env=with_index(index))


def make_empty_environment(environment: Path, python: str = sys.executable) -> None:
    made = run(python, "-m", "venv", str(environment), cwd=environment.parent, env=ours())
    assert made.returncode == 0, made.stdout


def install_as_the_dockerfile_does(environment: Path, env: dict[str, str], timeout: float = 100) -> Run:
    (command,) = re.findall(r"^RUN (pip install .*)$", text_of("Dockerfile"), re.M)
    path = os.pathsep.join([str(environment / "bin"), env["PATH"]])
    return run("sh", "-ec", command, cwd=environment.parent, env=env | {"PATH": path}, timeout=timeout)


@cache
def python_of(version: str) -> tuple[str, Version] | None:
    """The Python of this version on this machine, and the version of pip that it puts into environments."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [Path(folder, f"python{version}") for folder in os.get_exec_path()]
    candidates += sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        candidates.insert(0, Path(sys.executable))
    asked = "import ensurepip, sys, venv; print(*sys.version_info[:2], sep='.'); print(ensurepip.version())"
    for each in candidates:
        if each.exists():
            said = run(str(each), "-c", asked, cwd=ROOT, env=ours()).stdout.split()
            if said[:1] == [version]:
                return str(each), Version(said[1])
    return None


@pytest.fixture
def python(request: pytest.FixtureRequest) -> str:
    found = python_of(request.param)
    if found is None:
        pytest.skip(f"no Python {request.param} that can make environments is here")
    return found[0]


every_python = pytest.mark.parametrize("python", PYTHONS, indirect=True)


# --- from the tests' own index


@every_python
def test_make_installs_the_pins_though_the_index_has_newer_versions(pinned: Path, index: Path, python: str) -> None:
    done = make(pinned, "venv", index, python)
    assert done.returncode == 0, done.stdout
    assert "No broken requirements found." in done.stdout
    assert (pinned / ".venv/bin/vanguard").exists()
    assert not list(pinned.glob(f".venv/lib/*/site-packages/*-{NEWER}.dist-info"))


def test_pips_resolver_would_not_keep_to_the_pins(pinned: Path, index: Path) -> None:
    """The fault that --no-deps is there for: an extra of a pin is looked up as if it were another package."""
    here = [found for version in PYTHONS if (found := python_of(version)) and found[1] < Version("23.3")]
    if not here:
        pytest.skip("each pip here is 23.3 or later, which keeps to the pins")
    makefile = pinned / "Makefile"
    makefile.write_text(makefile.read_text().replace(WITHOUT_RESOLVER, "--require-hashes"))
    done = make(pinned, "venv", index, here[0][0])
    assert done.returncode != 0
    assert "coverage[toml]" in done.stdout


def test_the_dockerfile_installs_the_pins_and_misses_one_that_is_not_there(pinned: Path, index: Path) -> None:
    make_empty_environment(pinned / ".venv")
    pins = pinned / "requirements/runtime.txt"
    whole = pins.read_text()
    pins.write_text(re.sub(r"^mako==.*\n", "", whole, flags=re.M))
    done = install_as_the_dockerfile_does(pinned / ".venv", with_index(index))
    assert done.returncode != 0
    assert re.search(r"alembic \S+ requires mako, which is not installed", done.stdout, re.I), done.stdout
    pins.write_text(whole)
    done = install_as_the_dockerfile_does(pinned / ".venv", with_index(index))
    assert done.returncode == 0, done.stdout
    assert "No broken requirements found." in done.stdout


def test_make_says_in_one_line_what_to_do_without_an_index_and_loses_nothing(pinned: Path, index: Path) -> None:
    def assert_said(done: Run) -> None:
        assert done.returncode != 0
        *reasons, line, end = done.stdout.strip().splitlines()
        assert line.startswith("The packages were not installed. If the package index cannot be reached, name one")
        assert end.startswith("make: ***")
        assert [each for each in reasons if "Connection refused" in each], done.stdout
        assert len(reasons) <= 5, "what was called, and few words of pip's"

    assert_said(make(pinned, "run", None))
    # What an interrupted call may leave: a package of which only the description is there, and no pip.
    (packages,) = pinned.glob(".venv/lib/*/site-packages")
    half = packages / f"click-{version_of(pins_of('dev.txt')['click'])}.dist-info"
    half.mkdir()
    (half / "METADATA").write_text("Metadata-Version: 2.1\n")
    shutil.rmtree(packages / "pip")
    done = make(pinned, "venv", index)
    assert done.returncode == 0, done.stdout
    assert (half / "RECORD").exists()
    # An environment that was ready is kept while there is no index for what is new.
    pins = pinned / "requirements/dev.txt"
    whole = pins.read_text()
    pins.write_text(whole.replace("click==", "click==1"))
    assert_said(make(pinned, "test", None))
    pins.write_text(whole)
    assert make(pinned, "venv", None).returncode == 0


# --- from the real index


@pytest.mark.skipif("VANGUARD_TEST_INDEX" not in os.environ, reason="make check-install fetches the real packages")
@pytest.mark.timeout(900)  # as long as an index takes
@every_python
def test_the_real_packages_are_installed_and_start(project: Path, python: str) -> None:
    def succeeded(done: Run, said: str) -> None:
        assert done.returncode == 0, done.stdout
        assert said in done.stdout

    done = run("make", f"PYTHON={python}", "venv", cwd=project, env=ours(), timeout=900)
    succeeded(done, "No broken requirements found.")
    succeeded(run(".venv/bin/vanguard", "--version", cwd=project, env=ours()), PROJECT["version"])
    runtime = project / "runtime"
    make_empty_environment(runtime, python)
    succeeded(install_as_the_dockerfile_does(runtime, ours(), timeout=900), "No broken requirements found.")
    calls = "import app.main, app.cli; print('started')"
    succeeded(run("runtime/bin/python", "-c", calls, cwd=project, env=ours() | {"PYTHONPATH": "."}), "started")
