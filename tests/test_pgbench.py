"""benchmarks/pgbench: every comparison is whole, runs on today's schema, and times what the application sends."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from benchmarks.pgbench.__main__ import SLUGS, scripts_of, table, write_figures
from benchmarks.pgbench.scripts import OPTIONS, Script, compare, read
from benchmarks.pgbench.statements import HOME, WRITTEN
from benchmarks.pgbench.world import fill
from tests.conftest import new_database

LINES = 400
SCRIPTS = sorted(path.relative_to(HOME).as_posix() for path in HOME.glob("*/*.sql"))


@pytest.fixture(scope="module")
def filled_url(server_url: str) -> Iterator[str]:
    """A small copy of the data that the figures stand on."""
    with new_database(server_url) as url:
        fill(url, LINES)
        yield url


@pytest.mark.parametrize("slug", SLUGS)
def test_a_comparison_has_a_chosen_one_rivals_in_the_same_situations_and_a_readme(slug: str) -> None:
    chosen, *rivals = scripts_of(slug)
    assert rivals
    assert all(list(rival.runs) == list(chosen.runs) for rival in rivals)
    readme = (HOME / slug / "README.md").read_text(encoding="utf-8")
    assert f"python -m benchmarks.pgbench {slug}" in readme
    figures = readme.partition("<!-- figures -->\n")[2].partition("<!-- /figures -->")[0]
    assert all(f"| {label} |" in figures for label in chosen.runs)


def test_every_folder_is_a_comparison() -> None:
    assert {path.parent.name for path in HOME.glob("*/*") if path.suffix in (".sql", ".md")} == set(SLUGS)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_written_statement_is_what_the_application_composes(name: str) -> None:
    """Else `python -m benchmarks.pgbench --write` writes it anew."""
    assert (HOME / name).read_text(encoding="utf-8") == WRITTEN[name]()


@pytest.mark.parametrize("slug", SLUGS)
def test_a_rival_is_another_statement(slug: str) -> None:
    texts = [(script.setup.partition("PREPARE")[2], *script.runs.values()) for script in scripts_of(slug)]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_as_the_application_would(filled_url: str, name: str) -> None:
    script = read(HOME / name)
    with psycopg.connect(filled_url, options=OPTIONS, autocommit=True) as connection:
        connection.execute(script.setup.encode())
        for run in script.runs.values():
            connection.execute(run.encode())


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
    scripts = [Script(each.path, each.setup, {label: each.runs[label]}) for each in scripts_of("two-arms")]
    assert not compare(filled_url, scripts, seconds=0.01, rounds=1)[label]["left join"].same
