"""benchmarks/pgbench: every comparison is whole, runs on today's schema, and times what the application sends."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.contracts import PFA
from app.contracts.filters import read_listing
from app.engine.page import PageComposer
from benchmarks.bench_http import without_password
from benchmarks.pgbench.__main__ import SLUGS, main, table, write_figures
from benchmarks.pgbench.comparisons import COMPARISONS, HOME, scripts_of
from benchmarks.pgbench.rivals import QUERY, capped, joined, replaced, steps_of
from benchmarks.pgbench.scripts import OPTIONS, Script, compare, program
from benchmarks.pgbench.world import ORGANIZATION, fill
from tests.conftest import new_database

LINES = 400
SCRIPTS = {f"{slug}/{script.name}": script for slug in SLUGS for script in scripts_of(slug)}
FRAGMENTS = sorted(path.relative_to(HOME).as_posix() for path in HOME.glob("*/*.sql"))


@pytest.fixture(scope="module")
def filled_url(server_url: str) -> Iterator[str]:
    """A small copy of the data that the figures stand on."""
    with new_database(server_url) as url:
        fill(url, LINES)
        yield url


def prepared(script: Script) -> list[str]:
    """The texts of a script's statements."""
    return [text.partition(" AS\n")[2] for text in script.setup.split("PREPARE ")[1:]]


@pytest.mark.parametrize("slug", SLUGS)
def test_a_comparison_has_a_chosen_one_rivals_in_the_same_situations_and_a_readme(slug: str) -> None:
    chosen, *rivals = scripts_of(slug)
    assert chosen.name == "chosen"
    assert rivals
    assert all(list(rival.runs) == list(chosen.runs) for rival in rivals)
    readme = (HOME / slug / "README.md").read_text(encoding="utf-8")
    assert f"python -m benchmarks.pgbench {slug}" in readme
    figures = readme.partition("<!-- figures -->\n")[2].partition("<!-- /figures -->")[0]
    assert f" | {' | '.join(['chosen', *(rival.name for rival in rivals)])} |\n" in figures
    assert all(f"| {label} |" in figures for label in chosen.runs)


def test_every_folder_is_a_comparison() -> None:
    assert {path.parent.name for path in HOME.glob("*/*") if path.suffix in (".sql", ".md")} == set(SLUGS)


@pytest.mark.parametrize("slug", SLUGS)
def test_what_is_chosen_is_what_the_application_composes(slug: str) -> None:
    """Given the statements of a comparison, then the script prepares them as they are, each once."""
    chosen = COMPARISONS[slug].chosen()
    statements = dict.fromkeys(each.statement.rstrip() for each in chosen.values())
    assert [text.rstrip() for text in prepared(scripts_of(slug)[0])] == list(statements)


def test_a_page_that_is_timed_is_the_one_of_a_list_request() -> None:
    listing = read_listing(PFA, [("sort", "forecastStart"), ("count", "none")])
    page = PageComposer(PFA, listing, ORGANIZATION, "spread").page(None, counted=False, base_count=False)
    chosen = SCRIPTS["two-arms/chosen"]
    assert [text.rstrip() for text in prepared(chosen)] == [page.statement.text.rstrip()]
    assert chosen.runs["10,000 drafts, spread"] == "EXECUTE statement_1 ('acme', 'pfa', 'spread', 0, 100);"


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_fragment_says_what_it_is_and_holds_nothing_but_what_differs(name: str) -> None:
    """All its steps stand in the rival's statement, each is another one than the application's, the rest is not."""
    path = HOME / name
    fragment = path.read_text(encoding="utf-8")
    header, _, rest = fragment.partition("\n")
    assert header.startswith("-- ")
    assert header.endswith(".")
    rivals = steps_of(fragment)
    assert sum(map(len, rivals.values())) >= len(rest) - 3 * len(rivals), "nothing stands between the steps"
    scripts = {script.name: script for script in scripts_of(path.parent.name)}
    other = scripts[path.stem.removeprefix("rival_").replace("_", " ")]
    for chosen, rival in zip(prepared(scripts["chosen"]), prepared(other), strict=True):
        assert {step for step, text in steps_of(chosen).items() if steps_of(rival)[step] != text} == set(rivals)
        assert list(steps_of(rival)) == list(steps_of(chosen))


def test_a_rival_of_a_step_that_is_gone_is_refused() -> None:
    statement = "-- Read.\nWITH one AS (\n    SELECT 1\n),\ntwo AS MATERIALIZED (\n    SELECT 2\n)\nSELECT 3;\n"
    assert list(steps_of(statement)) == ["one", "two", QUERY]
    assert replaced(statement, "-- Other.\ntwo AS (\n    SELECT 4\n)\nSELECT 5\n") == (
        "-- Read.\nWITH one AS (\n    SELECT 1\n),\ntwo AS (\n    SELECT 4\n)\nSELECT 5;\n"
    )
    with pytest.raises(ValueError, match="no three"):
        replaced(statement, "three AS (\n    SELECT 4\n)\n")
    with pytest.raises(ValueError, match="no steps"):
        replaced(statement, "-- Nothing.\n")
    for edit in (capped, joined):
        with pytest.raises(AssertionError):
            edit(statement)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_rival_is_another_statement(slug: str) -> None:
    texts = [(script.setup.partition("PREPARE")[2], *script.runs.values()) for script in scripts_of(slug)]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_as_the_application_would(filled_url: str, name: str) -> None:
    script = SCRIPTS[name]
    with psycopg.connect(filled_url, options=OPTIONS, autocommit=True) as connection:
        connection.execute(script.setup.encode())
        for run in script.runs.values():
            connection.execute(run.encode())


@pytest.mark.parametrize("slug", SLUGS)
def test_what_is_shown_runs_in_one_session(
    filled_url: str, slug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given the printed scripts of a comparison, when a client sends one statement after the other, then all run."""
    monkeypatch.setattr(sys, "argv", ["pgbench", slug, "--show"])
    main()
    shown = capsys.readouterr().out
    assert all(f"-- {label}\n" in shown for label in scripts_of(slug)[0].runs)
    file = tmp_path / "shown.sql"
    file.write_text(shown, encoding="utf-8")
    address, password = without_password(filled_url)
    done = subprocess.run(
        [program(), "-n", "-M", "simple", "-t", "1", "-f", file, address],
        env={**os.environ, **password, "PGOPTIONS": OPTIONS},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_a_comparison_is_timed_and_written_down(filled_url: str, tmp_path: Path) -> None:
    figures = compare(filled_url, scripts_of("covered-rows"), seconds=0.01, rounds=1)
    assert list(figures) == list(scripts_of("covered-rows")[0].runs)
    for found in figures.values():
        assert list(found) == ["chosen", "not in"]
        assert all(figure.milliseconds > 0 and figure.same for figure in found.values())
    assert table("covered-rows", figures).row_count == len(figures)

    readme = tmp_path / "README.md"
    readme.write_text("Before.\n\n<!-- figures -->\nold\n<!-- /figures -->\n\nAfter.\n", encoding="utf-8")
    write_figures(readme, figures, "400 lines")
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("Before.\n\n<!-- figures -->\n| 400 lines | chosen | not in |\n")
    assert text.endswith("<!-- /figures -->\n\nAfter.\n")
    assert "old" not in text


def test_a_rival_with_other_rows_is_said_to_have_them(filled_url: str) -> None:
    """Given drafts that move rows, when rows are sorted as the mirror has them, then it shows."""
    label = "10,000 drafts, spread"
    scripts = [each._replace(runs={label: each.runs[label]}) for each in scripts_of("two-arms")]
    assert not compare(filled_url, scripts, seconds=0.01, rounds=1)[label]["left join"].same
