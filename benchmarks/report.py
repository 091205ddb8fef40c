"""docs/benchmarks.md, from its template and the figures of a run, and its plots as SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import NamedTuple, Protocol

import msgspec

from benchmarks.figures import Figure

# The longest line of a document, tables apart.
LONGEST_LINE = 120
TEMPLATE = Path(__file__).with_name("benchmarks.md.template")
Points = Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 660, 40, 320
COLOURS = ("#0b6e99", "#b8500c", "#3f7d20", "#8b2fa0", "#b3002d")


class About(msgspec.Struct, frozen=True, kw_only=True):
    """When, where and with what was measured; `others` is the share of the processors that went to other work."""

    date: str
    processor: str
    postgresql: str
    python: str
    vanguard: str
    rows: int
    others: float | None = None


class Titled(Protocol):
    """Anything with a title: a group."""

    @property
    def title(self) -> str: ...


class Plot(NamedTuple):
    """A plot: its file's name, its title, the name of the axis below."""

    file: str
    title: str
    axis: str


PLOTS = {
    "drafts": Plot("benchmarks-drafts.svg", "A page of 100, by the user's drafts", "drafts"),
    "rows": Plot("benchmarks-rows.svg", "A page of 100, by the lines of the organization", "lines"),
}


def write(
    file: Path,
    about: About,
    figures: Mapping[str, Sequence[Figure]],
    notes: Mapping[str, str],
    points: Points,
    groups: Mapping[str, Titled],
) -> None:
    """The document, and its plots beside it. Notes are what is to be said of groups besides their figures."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for name, plot in PLOTS.items():
        if points.get(name):
            (file.parent / plot.file).write_text(svg(plot, points[name]), encoding="utf-8")
    file.write_text(document(about, figures, notes, points, groups), encoding="utf-8")


def document(
    about: About,
    figures: Mapping[str, Sequence[Figure]],
    notes: Mapping[str, str],
    points: Points,
    groups: Mapping[str, Titled],
) -> str:
    """The template, its places {{...}} filled."""
    parts = {
        "head": _head(about),
        "figures": "\n\n".join(
            _section(groups[name].title, name, each, notes.get(name)) for name, each in figures.items()
        ),
        "missed": _missed([figure for each in figures.values() for figure in each]),
        "plots": "\n\n".join(f"![{plot.title}]({plot.file})" for name, plot in PLOTS.items() if points.get(name)),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part)
    return text


def rounded(value: float) -> str:
    """As many digits as mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def wrapped(paragraph: str) -> str:
    """A paragraph in lines that are not too long."""
    return fill(" ".join(paragraph.split()), LONGEST_LINE, break_long_words=False, break_on_hyphens=False)


def _head(about: About) -> str:
    return wrapped(
        f"Measured on {about.date}: {about.processor}; PostgreSQL {about.postgresql}, Python {about.python}, "
        f"Vanguard {about.vanguard}; {about.rows:,} lines. {told_of_others(about)}"
    )


def told_of_others(about: About) -> str:
    """How far to trust the figures, where it is known."""
    if about.others is None:
        return ""
    return f"Other work took {about.others:.0%} of the processors meanwhile."


def _section(title: str, name: str, figures: Sequence[Figure], note: str | None) -> str:
    lines = [f"### {title}", "", f"`ONLY={name}`", ""]
    if figures:
        lines += ["| figure | value | bound | holds |", "|---|---|---|---|"]
        lines += [
            f"| {figure.figure} | {rounded(figure.value)} {figure.unit} | {figure.bound or ''} | {_yes(figure.holds)} |"
            for figure in figures
        ]
    if note:
        lines += ["", wrapped(note)]
    return "\n".join(lines)


def _yes(holds: bool | None) -> str:
    return "" if holds is None else "yes" if holds else "**no**"


def _missed(figures: Sequence[Figure]) -> str:
    missed = [figure for figure in figures if figure.holds is False]
    if not missed:
        return "Every bound holds in this run."
    return "\n\n".join(
        wrapped(f"**{figure.figure}**: {rounded(figure.value)} {figure.unit}, wanted {figure.bound}. {figure.missed}")
        for figure in missed
    )


# -- plots -------------------------------------------------------------------------------------------------------------


def svg(plot: Plot, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Milliseconds over something, both axes logarithmic; 0 stands at the left edge."""
    across = _Axis([x for points in lines.values() for x, _ in points], LEFT, RIGHT)
    up = _Axis([y for points in lines.values() for _, y in points], BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        ' font-family="sans-serif" font-size="12">',
        f"<title>{escape(plot.title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(plot.title)}</text>',
        f'<text x="{RIGHT}" y="{BOTTOM + 34}" text-anchor="end">{escape(plot.axis)}</text>',
        f'<text x="{LEFT - 8}" y="{TOP - 8}" text-anchor="end">ms</text>',
    ]
    for mark in (mark * step for mark in up.marks() for step in (1, 2, 5) if up.place(mark * step) >= TOP):
        at = up.place(mark)
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{RIGHT}" y2="{at:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{mark:g}</text>')
    for mark in across.marks():
        at = across.place(mark)
        parts.append(f'<line x1="{at:.1f}" y1="{BOTTOM}" x2="{at:.1f}" y2="{BOTTOM + 5}" stroke="#888"/>')
        parts.append(f'<text x="{at:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{mark:,.0f}</text>')
    for number, ((name, points), colour) in enumerate(zip(lines.items(), cycle(COLOURS), strict=False)):
        parts += _line(name, [(across.place(x), up.place(y)) for x, y in sorted(points)], colour, number)
    return "\n".join([*parts, "</svg>", ""])


def _line(name: str, points: Sequence[tuple[float, float]], colour: str, number: int) -> list[str]:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    left, top = LEFT + number % 2 * 320, BOTTOM + 48 + number // 2 * 16
    return [
        f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points),
        f'<rect x="{left}" y="{top - 9}" width="10" height="10" fill="{colour}"/>',
        f'<text x="{left + 16}" y="{top}">{escape(name)}</text>',
    ]


class _Axis:
    """A logarithmic axis between two places; 0 stands a step before the smallest value."""

    def __init__(self, values: Sequence[float], start: float, end: float):
        positive = [value for value in values if value > 0] or [1.0]
        self._zero = any(value == 0 for value in values)
        low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
        self._low, self._high = low - self._zero, max(high, low + 1)
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        exponent = self._low if value <= 0 else math.log10(value)
        return self._start + (exponent - self._low) / (self._high - self._low) * (self._end - self._start)

    def marks(self) -> list[float]:
        return [0.0 if self._zero and n == self._low else 10.0**n for n in range(self._low, self._high + 1)]
