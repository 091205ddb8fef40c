"""The documents: nothing undocumented, nothing documented that is not there, no dead link, and README's walk works."""

import ast
import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
import psycopg
import pytest

from app.base.errors import VanguardError
from app.base.settings import PREFIX, Settings
from app.cli import main
from app.contracts import PFA
from app.contracts.comparison import Compatibility, Kind
from app.contracts.filters import OPERATORS, SYNC_STATES
from app.contracts.model import Contract, Field
from app.contracts.rule_types import Rule
from app.contracts.states import DatasetState, SystemMode
from app.dev import run, seed
from app.engine.audit import Act
from app.failures import Failed
from app.query_previews.corrections import CorrectionType
from app.synchronization import Circuit, Health
from app.web import problems
from app.web.auth import ALLOWED, Action, Role
from tests.support.world import World, less_position
from tests.test_dev import free_port, simulated, started
from tests.test_tenancy import ORGANIZATION_ROUTES

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
DATASET = "/api/v1/orgs/{org}/datasets/{dataset}"
DECISION = re.compile(r"(Accepted|Superseded by \[[^]]+\]\(#(?P<by>[\w-]+)\)), (?P<date>\d{4}-\d\d-\d\d)\. Rival: .+\.")
LINES = 200


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section_of(name: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level."""
    level = heading.partition(" ")[0]
    match = re.search(rf"^{re.escape(heading)}$(.*?)(?=^#{{1,{len(level)}}} |\Z)", text_of(name), re.M | re.S)
    assert match is not None, f"{name} has no {heading!r}"
    return match[1]


def rows_of(text: str) -> list[list[str]]:
    """The cells of each line of a Markdown table, but for the lines of dashes."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not re.fullmatch(r"[|\s-]+", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def words_of(cells: Iterable[str]) -> set[str]:
    """What stands between backticks."""
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def first_column(text: str) -> set[str]:
    return words_of(row[0] for row in rows_of(text))


# --- links


def anchor_of(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors_of(document: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    return set(map(anchor_of, re.findall(r"^#{1,6} (.+)$", text, re.M)))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        found = (document.parent / path).resolve() if path else document
        assert found.exists(), f"{document.name} links to {target}"
        assert not anchor or anchor in anchors_of(found), f"{document.name} links to {target}"


def test_every_document_can_be_reached_from_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        document = waiting.pop()
        reached.add(document)
        links = re.findall(r"\]\(([^)#\s]+\.md)", document.read_text(encoding="utf-8"))
        found = {(document.parent / link).resolve() for link in links if not link.startswith("http")}
        waiting += [each for each in found if each not in reached and each not in waiting]
    assert set(DOCUMENTS) <= reached


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_files_that_are_named_are_there(document: Path) -> None:
    """Paths from the project's directory, between backticks."""
    named = re.findall(r"`((?:app|sql|tests|docs|benchmarks|migrations|requirements)/[\w./-]*)`", document.read_text())
    missing = {name for name in named if not (ROOT / name).exists() and "what_it_does" not in name}
    assert missing == set()


# --- settings and the command line


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {row[0].strip("`"): row[1] for row in rows_of(section_of("docs/settings.md", "## All settings"))[1:]}
    assert set(documented) == {PREFIX + name.upper() for name in Settings.__struct_fields__}
    sample = Settings(database_url="", secret="")
    for name, shown in ((name, documented[PREFIX + name.upper()]) for name in Settings.__struct_fields__):
        default = getattr(sample, name)
        if name in ("database_url", "secret"):
            expected = "required"
        elif default is None or default == ():
            expected = "none"
        elif isinstance(default, tuple):
            expected = f"`{','.join(default)}`"
        elif isinstance(default, bool):
            expected = f"`{str(default).lower()}`"
        else:
            expected = f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
        assert shown == expected, name


def commands(command: click.Command, path: str = "vanguard") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            each = command.get_command(context, name)
            assert each is not None
            yield from commands(each, f"{path} {name}")
    else:
        yield path, command


@pytest.mark.parametrize(
    ("path", "command"), list(commands(main)), ids=lambda item: item if isinstance(item, str) else ""
)
def test_every_command_and_option_is_documented(path: str, command: click.Command) -> None:
    rows = rows_of(section_of("docs/operations.md", "## The command line"))
    said = next((row for row in rows if row[0].strip("`").startswith(path)), None)
    assert said is not None, f"{path} is not documented"
    places = " ".join(said)
    if path == "vanguard dev":
        places += section_of("docs/settings.md", "## Options of `vanguard dev`")
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    for argument in arguments:
        assert str(argument.name).upper() in said[0], f"{path} {argument.name}"
    for option in (parameter for parameter in command.params if isinstance(parameter, click.Option)):
        for name in [*option.opts, *([str(option.envvar)] if option.envvar else [])]:
            assert f"`{name}`" in places or f"{name} " in said[0], f"{path} {name}"


def test_no_command_is_documented_that_is_not_there() -> None:
    known = {path for path, _ in commands(main)}
    rows = rows_of(section_of("docs/operations.md", "## The command line"))[1:]
    for row in rows:
        assert any(row[0].strip("`").startswith(path) for path in known), row[0]
    for document in DOCUMENTS:
        shells = re.findall(r"^```(?:sh|console)$(.*?)^```", document.read_text(encoding="utf-8"), re.M | re.S)
        for call in re.findall(r"\bvanguard ((?:org|account|upstream|drift) [a-z]+|[a-z-]+)", "".join(shells)):
            assert f"vanguard {call}" in known, f"{document.name}: vanguard {call}"


def test_the_demonstrations_accounts_are_documented() -> None:
    rows = rows_of(section_of("README.md", "## Demonstration accounts"))[1:]
    assert {(row[0].strip("`"), row[1], row[2]) for row in rows} == {
        (person.email, person.organization, person.role.value) for person in run.PEOPLE
    }
    assert f"`{run.PASSWORD}`" in section_of("README.md", "## Demonstration accounts")
    dev = main.get_command(click.Context(main), "dev")
    assert dev is not None
    options = {parameter.name: parameter.default for parameter in dev.params}
    documented = {
        row[0].strip("`"): row[2].strip("`")
        for row in rows_of(section_of("docs/settings.md", "## Options of `vanguard dev`"))[1:]
    }
    assert documented["--rows"] == str(options["rows"])
    assert documented["--port"] == str(options["port"])


# --- errors


def kinds(kind: type[VanguardError] = VanguardError) -> Iterator[type[VanguardError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from kinds(each)


ONE_WORD = {"STOPPED", "UNFILTERED"}  # codes without an underscore, which cannot be told from other words
NO_CODES = {"HTTP_AUTHORIZATION", "BUILT_IN", "DATABASE_URL", "LC_ALL", "PG_VERSION", "RAW_TEXT"}


def codes_of_culprits() -> set[str]:
    """Words in UPPER_SNAKE that the code gives to culprits: texts of Python, of the statements and of the contract."""
    found = set()
    for file in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"^[A-Z]+(?:_[A-Z]+)+$", node.value))
    for file in (ROOT / "sql").rglob("*.sql"):
        found |= set(re.findall(r"'([A-Z]+(?:_[A-Z]+)+)'", file.read_text(encoding="utf-8")))
    fixed = {*Kind, *DatasetState, *SystemMode, *get_args(CorrectionType)}
    return {word for word in found - NO_CODES - fixed if not word.startswith(PREFIX)}


def test_every_code_is_documented_with_its_status() -> None:
    rows = rows_of(section_of("docs/errors.md", "## Codes of an answer"))[1:]
    documented = {row[0].strip("`"): set(map(int, row[1].split(", "))) for row in rows}
    given: dict[str, set[int]] = {}
    for kind in kinds():
        given.setdefault(kind.code, set()).add(problems.STATUS[kind.kind])
    assert documented == given
    culprits = {row[0].strip("`") for row in rows_of(section_of("docs/errors.md", "## Codes of one culprit"))[1:]}
    of_runs = first_column(section_of("docs/errors.md", "## Codes of a run"))
    of_changes = first_column(section_of("docs/errors.md", "## Codes of a change"))
    assert codes_of_culprits() - documented.keys() - of_runs - of_changes <= culprits
    assert culprits | of_runs <= codes_of_culprits() | ONE_WORD, "a code that nothing gives"
    assert of_changes == set(get_args(get_args(Failed.__annotations__["code"])[0]))
    assert {rule.code for rule in PFA.rules} <= culprits
    defaults = {
        field.default for kind in Rule.__args__ for field in msgspec.structs.fields(kind) if field.name == "code"
    }
    assert defaults <= culprits


def test_every_kind_of_change_is_documented() -> None:
    kinds, severities = words_of_tables("docs/contracts.md", "## Versions", 0, 2)
    assert kinds == {"kind", *Kind}
    assert severities == {*Compatibility}


def words_of_tables(name: str, heading: str, *columns: int) -> list[set[str]]:
    """What stands between backticks in columns of the tables under a heading that have so many."""
    rows = [row for row in rows_of(section_of(name, heading)) if len(row) > max(columns)]
    return [words_of(row[column] for row in rows) for column in columns]


def test_every_sqlstate_is_documented() -> None:
    rows = rows_of(section_of("docs/errors.md", "## From the database"))[1:-1]
    documented = {state.strip(): row[1] for row in rows for state in row[0].split(",")}
    assert documented.keys() == problems.SQLSTATES.keys()
    for state, (kind, _) in problems.SQLSTATES.items():
        assert f"`{kind.code}`" in documented[state], state


# --- the API


def plain(path: str) -> str:
    """A path without the names of its parameters, D written out."""
    return re.sub(r"\{\w+\}", "{}", re.sub(r"^D(?=/|$)", DATASET, path))


async def document_of(world: World) -> dict[str, Any]:
    answer = await world.http.get("/schema/openapi.json")
    document: dict[str, Any] = answer.json()
    return document


async def test_every_route_and_parameter_is_documented(world: World) -> None:
    document = await document_of(world)
    routes = {f"{method.upper()} {plain(path)}" for path, methods in document["paths"].items() for method in methods}
    headings = {
        f"{method} {plain(path)}": f"### {method} {path}"
        for method, path in re.findall(r"^### ([A-Z]+) (\S+)$", text_of("docs/api.md"), re.M)
    }
    assert routes == set(headings)
    listed = {
        f"{method} {plain(path)}"
        for method, path in re.findall(r"^\| `([A-Z]+) (\S+)` \|", section_of("docs/api.md", "## All routes"), re.M)
    }
    assert routes == listed
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            section = section_of("docs/api.md", headings[f"{method.upper()} {plain(path)}"])
            for given in operation.get("parameters", []):
                if given["in"] == "query" and given["name"] != "filters":
                    assert f"`{given['name']}`" in section or f"`{given['name']}=" in section, (path, given["name"])


def test_roles_are_documented() -> None:
    """Each route's least role, by its guard in tests/test_tenancy.py."""
    rows = rows_of(section_of("docs/api.md", "## All routes"))[1:]
    said = {plain_route(row[0].strip("`")): row[1] for row in rows}
    for route, door in ORGANIZATION_ROUTES.items():
        assert said[plain_route(route)] == min(ALLOWED[door.action]).value, route


def test_every_action_is_documented_with_who_may_do_it() -> None:
    """In the table of roles, and in the list of what `may` says, in its order."""
    rows = rows_of(section_of("docs/api.md", "## All routes"))
    heads = ["action", "in `may`", *(role.value for role in Role)]
    table = rows[rows.index(heads) + 1 :]
    said = {row[1].strip("`"): [cell == "yes" for cell in row[2:]] for row in table}
    assert said == {action.word: [role in allowed for role in Role] for action, allowed in ALLOWED.items()}
    [listed] = [row[1] for row in rows_of(section_of("docs/api.md", "### GET D")) if row[0] == "`may`"]
    assert re.findall(r"`(\w+)`", listed) == [action.word for action in Action]


def plain_route(route: str) -> str:
    method, _, path = route.partition(" ")
    return f"{method} {plain(path)}"


def test_every_operator_and_state_is_documented() -> None:
    filters = section_of("docs/api.md", "### Filters")
    for operator in OPERATORS:
        assert operator == "eq" or f"[{operator}]=" in filters, operator
    assert first_column(section_of("docs/merging.md", "## States")) == set(SYNC_STATES)
    groups = " ".join(section_of("docs/merging.md", "### Atomic groups").split())
    for group in PFA.atomic_groups:
        said = f"`{group.name}` ({', '.join(f'`{field}`' for field in group.fields)})"
        assert said in groups


def test_every_act_of_the_audit_is_documented() -> None:
    assert first_column(section_of("docs/audit.md", "## What is recorded")) == set(Act)


def test_every_metric_and_log_event_is_documented() -> None:
    operations = text_of("docs/operations.md")
    metrics, events = set(), set()
    for file in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
                continue
            if isinstance(node.func, ast.Name) and node.func.id in ("Counter", "Histogram", "Gauge"):
                metrics.add(str(node.args[0].value))
            if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "log":
                events.add(str(node.args[0].value))
    assert metrics == {word for word in first_column(operations) if word.startswith("vanguard_") and " " not in word}
    assert events == first_column(section_of("docs/operations.md", "## Logs"))


# --- architecture


def test_the_order_of_locks_names_every_file_of_locks() -> None:
    named = set(re.findall(r"`(sql/locks/\w+\.sql)`", section_of("docs/architecture.md", "## The order of locks")))
    assert named == {file.relative_to(ROOT).as_posix() for file in (ROOT / "sql" / "locks").glob("*.sql")}


def test_every_transaction_stands_in_the_order_of_locks() -> None:
    """Whoever opens a transaction, or gives work to answer_once, in app/."""
    writers = set()
    for file in (ROOT / "app").rglob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.AsyncFunctionDef):
                calls = {ast.unparse(each.func) for each in ast.walk(node) if isinstance(each, ast.Call)}
                if "answer_once" in calls or any(call.endswith(".transaction") for call in calls):
                    writers.add(f"{file.stem}.{node.name}")
    # Plumbing: they open the transaction for those that are named. _run, get_* only read, discard_* are doors.
    plumbing = {
        "idempotency._run",
        "rows._run",
        "preview.get_preview",
        "reading_routes.get_diff",
        "discards.discard_drafts",
        "pfa.discard_lines",
        "seed._seed",
    }
    section = section_of("docs/architecture.md", "## The order of locks")
    assert writers - plumbing <= words_of([section])


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = [re.split(r"[\[<>=~! ]", each)[0] for each in wanted]
    assert first_column(section_of("docs/architecture.md", "## Dependencies")) == set(names)


def test_every_module_stands_in_the_layers() -> None:
    """Nouns and wings."""
    modules = {
        file.stem for file in (ROOT / "app").iterdir() if file.suffix == ".py" or (file / "__init__.py").exists()
    }
    modules -= {"__init__"}
    named = words_of([" ".join(row) for row in rows_of(section_of("docs/architecture.md", "## Layers"))])
    assert modules <= named


# --- decisions


def decisions() -> dict[str, list[str]]:
    """The paragraphs below each heading, their lines joined."""
    _, *parts = re.split(r"^## ", text_of("docs/decisions.md"), flags=re.M)
    found = {}
    for part in parts:
        title, _, body = part.partition("\n")
        found[title] = [" ".join(paragraph.split()) for paragraph in body.strip().split("\n\n")]
    return found


@pytest.mark.parametrize("title", decisions())
def test_every_decision_has_status_date_rival_and_reason(title: str) -> None:
    told, *reason = decisions()[title]
    match = DECISION.fullmatch(told)
    assert match is not None, told
    assert date.fromisoformat(match["date"])
    assert match["by"] is None or match["by"] in map(anchor_of, decisions())
    assert reason, "a decision without a reason"


def test_every_decision_is_listed() -> None:
    listed = re.findall(r"^  - \[(.+)\]\(#(.+)\)$", text_of("docs/decisions.md"), re.M)
    assert listed == [(title, anchor_of(title)) for title in decisions()]


# --- the glossary

DOMAIN, ENGINE, STATES, ROLES = "## The domain", "## The engine", "## States and other fixed words", "## Roles"
# Italics that stress a word, and are no term.
STRESSED = {"your", "other", "new", "every", "i"}


def entries(heading: str) -> list[list[str]]:
    return rows_of(section_of("docs/glossary.md", heading))[1:]


def words_in(heading: str) -> set[str]:
    return words_of(cell for row in entries(heading) for cell in row)


@pytest.mark.parametrize("heading", [DOMAIN, ENGINE, STATES])
def test_the_glossary_is_sorted_and_complete(heading: str) -> None:
    words = [row[0].strip("`") for row in entries(heading)]
    assert words == sorted(set(words), key=lambda word: (word.casefold(), word))
    assert all(len(row) == 3 and all(row) for row in entries(heading))


def test_no_word_of_the_glossary_has_two_entries() -> None:
    words = [row[0].casefold() for heading in (DOMAIN, ENGINE) for row in entries(heading)]
    assert len(words) == len(set(words))


def test_every_relation_and_column_stands_in_the_glossary(database_url: str) -> None:
    """Columns of a dataset; those that a contract adds by their prefix, such as `f_*`."""
    with psycopg.connect(database_url) as connection:
        relations = connection.execute(
            """
            SELECT n.nspname || '.' || c.relname
              FROM pg_class AS c
              JOIN pg_namespace AS n ON n.oid = c.relnamespace
             WHERE n.nspname IN ('pfa', 'public') AND c.relkind IN ('r', 'm', 'v') AND c.relname <> 'alembic_version'
            """
        ).fetchall()
        columns = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'pfa'"
        ).fetchall()
    named = {word for word in words_in(ENGINE) if re.fullmatch(r"(pfa|public)\.\w+", word)}
    assert {name for (name,) in relations} == named
    assert {re.sub(r"^([abf])_.+", r"\1_*", name) for (name,) in columns} <= words_in(ENGINE)


def test_every_state_and_role_stands_in_the_glossary(database_url: str) -> None:
    """The words that a CHECK of the database lists, and the states that are computed."""
    with psycopg.connect(database_url) as connection:
        checks = connection.execute(
            """
            SELECT pg_get_constraintdef(oid)
              FROM pg_constraint
             WHERE contype = 'c' AND connamespace IN ('pfa'::regnamespace, 'public'::regnamespace)
            """
        ).fetchall()
    listed = {
        word
        for (check,) in checks
        for words in re.findall(r"ARRAY\[(.*?)\]", check)
        for word in re.findall(r"'(\w+)'", words)
    }
    roles = [role.value for role in Role]
    computed = {*get_args(Circuit.__annotations__["state"]), *get_args(Health.__annotations__["status"]), *SYNC_STATES}
    assert [row[0].strip("`") for row in entries(ROLES)] == roles
    assert {row[0].strip("`") for row in entries(STATES)} == (listed | computed | {*DatasetState}) - {*roles}


def test_every_word_of_the_contract_stands_in_the_glossary() -> None:
    """PFA's fields and figures among the words of the domain, those that declare them among the engine's."""
    fields = {name for field in PFA.fields for name in (field.name, *field.values)}
    figures = {each.name for each in (*PFA.computed, *PFA.measures, *PFA.derived, *PFA.bounds, *PFA.exclusions)}
    assert fields | figures | {group.name for group in PFA.atomic_groups} <= words_in(DOMAIN)
    declared = {*Contract.__struct_encode_fields__, *Field.__struct_encode_fields__}
    assert declared | {kind.__struct_config__.tag for kind in Rule.__args__} <= words_in(ENGINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_a_term_in_italics_stands_in_the_glossary(document: Path) -> None:
    words = {row[0].casefold() for heading in (DOMAIN, ENGINE) for row in entries(heading)}
    text = re.sub(r"^```.*?^```|`[^`]*`", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    terms = {
        " ".join(term.split()).casefold()
        for found in re.findall(r"(?<![*\w])\*(\w[^*]*)\*(?![*\w])", text)
        for term in found.split(" and ")
    }
    unknown = {term for term in terms - STRESSED if not {term, term.removesuffix("s"), term.removesuffix("es")} & words}
    assert unknown == set()


# --- README's walk


@pytest.fixture
def served(short_dir: Path, create_database: Callable[..., str]) -> Iterator[dict[str, str]]:
    """Where `vanguard dev` serves the demonstration, and its PEMS."""
    with started(free_port(), short_dir, "--rows", str(LINES), "--demo", DATABASE_URL=create_database()) as (
        _,
        client,
        _,
    ):
        yield {"VANGUARD": str(client.base_url), "PEMS": simulated(short_dir)}


def answers_of(output: str) -> list[dict[str, Any]]:
    """The JSON values that stand one after another."""
    found, decoder, rest = [], json.JSONDecoder(), output.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(value)
        rest = rest[end:].lstrip()
    return found


@pytest.mark.slow("the first thing that a reader tries does what README says")
@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_readmes_walk_works(served: dict[str, str]) -> None:
    """Given the demonstration, when README's commands are pasted in turn, then each does what README says of it."""
    blocks = re.findall(r"^```sh\n(.*?)^```", section_of("README.md", "## A walk with curl"), re.M | re.S)
    assert len(blocks) == 8
    environment = os.environ | served | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

    def walk() -> list[dict[str, Any]]:
        done = subprocess.run(
            ["sh", "-e", "-c", "".join(blocks)], env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return answers_of(done.stdout)

    listed, saved, merged, measured, rehearsed, committed, pushed, drafted, discarded = walk()
    rates = [row["data"]["monthlyRate"] for row in listed["data"]]
    assert rates == sorted(rates, reverse=True)
    assert len(rates) == 3
    assert {row["data"]["category"] for row in listed["data"]} == {"Cranes"}
    assert (saved["saved"][0]["syncState"], saved["errors"]) == ("draft", [])
    assert merged["pagination"]["totalRecords"] == 1
    assert merged["data"][0]["data"] == {
        "category": "Tower cranes",
        "monthlyRate": 19000.75,
        "forecastEnd": "2025-11-05",
    }
    assert [group["key"] for group in measured["groups"]] == [{"category": "Tower cranes"}]
    assert [measured["totals"][side]["rows"] for side in ("baseline", "mine", "difference")] == [0, 1, 1]
    assert (rehearsed["commitId"], rehearsed["committed"]) == (None, 1)
    assert (committed["commitId"] is None, committed["committed"]) == (False, 1)
    assert (pushed["document"]["category"], pushed["document"]["monthlyRate"]) == ("Tower cranes", 19000.75)
    assert drafted["saved"][0]["syncState"] == "draft"
    assert less_position(discarded) == {"discarded": 1}
    again = walk()
    assert [again[4]["committed"], again[5]["committed"]] == [0, 0]


def test_the_walk_shows_what_readme_draws() -> None:
    """The picture's row is a line of the demonstration."""
    lines = dict(row for _, row in zip(range(LINES), seed.pfa_lines("demo", 1), strict=False))
    line = json.loads(lines["PFA-0000011"])
    mirror = next(each for each in text_of("README.md").splitlines() if each.strip().startswith("mirror"))
    for field in ("category", "monthlyRate", "forecastEnd"):
        assert str(line[field]) in mirror
