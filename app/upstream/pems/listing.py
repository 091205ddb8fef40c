"""Turning the pages of a grid, so that no line is passed over and the end is reached.

Between two pages of a listing lines may appear and vanish, so that positions shift. Each page therefore begins with the
last line of the page before; where that is not among the lines that come, it goes back until one comes that was seen.
Positions where nothing comes although PEMS says that more follows are passed over, up to the first where something
does. Where PEMS contradicts itself, the listing is in doubt: some of its lines may not have come.
"""

from collections.abc import Awaitable, Callable

import msgspec

from app.upstream.pems.grid import GridPage
from app.upstream.protocol import Failed

MAX_SHIFTS = 5  # times in a row that the last line may turn up further down
MAX_BACK = 100  # pages that are asked for backwards, to find a line that was seen
MAX_DOUBLINGS = 20  # of a step over empty positions where nobody knows how many there are
MAX_DIGITS = 15  # of a position
MAX_IDLE = 100  # pages in a row that bring nothing further down

Ask = Callable[[int | str, int], Awaitable[GridPage]]  # of a position and how many lines


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a listing stands.

    `position` of the last line, counted from 1, and some of the lines `seen` up to it, it the last; or `following`,
    where PEMS names the next position in its own way. `lines` that came, of how many that were `announced`. `deepest`
    position so far, and for how many pages it was not passed (`idle`). `ended`: PEMS said that no more follows.
    `short`: the last page was, although more was to follow; `gap`: what seems to be left out.
    """

    code: str
    position: int = 0
    seen: tuple[str, ...] = ()
    following: str | None = None
    lines: int = 0
    announced: int | None = None
    deepest: int = 0
    idle: int = 0
    ended: bool = False
    short: bool = False
    gap: str | None = None
    doubt: str | None = None


class Turned(msgspec.Struct, frozen=True, kw_only=True):
    """A page, the place after it, None at the end; how many lines were announced, and what makes doubtful that all of
    them came.
    """

    page: GridPage
    following: Place | None
    announced: int | None
    doubt: str | None


async def turn(ask: Ask, place: Place, size: int) -> Turned:
    """The page after a place, of at most `size` lines. Raises what `ask` raises, and Failed where it gets nowhere."""
    page, start, gap = await _begin(ask, place, size)
    if _brings_nothing(page, place, size) and place.following is None:
        reached = start + len(page.identities) - 1
        if _says_more(page, reached):
            found, further, gap = await _beyond(ask, max(start, reached), size, page)
            page, start = (page, start) if found is page else (found, further)
    stuck = _stuck(place, page)
    after = _after(place, page, start, size, gap or _left_out(place, page, start))
    goes_on = not _brings_nothing(page, place, size) and not _ends(page, after.position, size)
    if stuck is None and (goes_on or after.following is not None):
        return Turned(page=page, following=_progressing(place, after), announced=after.announced, doubt=after.doubt)
    return Turned(page=page, following=None, announced=after.announced, doubt=_doubt(after, page) or stuck)


async def _begin(ask: Ask, place: Place, size: int) -> tuple[GridPage, int, str | None]:
    """A page that holds a line which was seen, or begins the listing, or is where PEMS leads to; its position, and what
    was passed over before it.

    Lines before a seen one were seen, those after it follow without a gap: so none is passed over.
    """
    if place.following is not None:
        return await ask(place.following, size), _position(place.following) or place.position + 1, None
    start, step, back, shifts, ending = max(place.position, 1), 1, 0, 0, None
    while True:
        page = await ask(start, size)
        lines = page.identities
        if not lines and start == place.position > 1 and _says_more(page, start):
            found, further, gap = await _beyond(ask, start, size, page)
            if found.identities:
                return found, further, gap
        if not lines and ending is not None and len(ending[0].identities) < size:
            return *ending, None  # it ended the listing: the position of its last line brings nothing
        if start > 1 and not set(place.seen) & set(lines):
            start, step, back = max(start - step, 1), min(2 * step, size - 1), back + 1
            if back > MAX_BACK:
                raise Failed("PEMS has none of the lines any more that it sent on the page before.")
        elif place.seen and len(lines) > 1 and lines[-1] == place.seen[-1]:
            # New lines moved the last one down to the end of this page, and what follows it is still to come; or
            # else pages are not turned at all.
            ending = page, start
            start, shifts = start + len(lines) - 1, shifts + 1
            if shifts > MAX_SHIFTS:
                raise Failed("PEMS sends the same lines whatever position it is asked for.")
        else:
            return page, start, None


async def _beyond(ask: Ask, empty: int, size: int, nothing: GridPage) -> tuple[GridPage, int, str | None]:
    """A page behind a position where nothing new comes, its position, and what was passed over; the empty page where
    there is none.

    In steps that double, then back by halves: nothing comes at the position before the one that is found. What comes
    between two such gaps may be passed over, too, where it is shorter than a step.
    """
    total = _total(nothing)
    last = empty + 2**MAX_DOUBLINGS if total is None else total
    low, step, high, found = empty, 1, empty, nothing
    while high == empty:
        probe = min(empty + step, last)
        if probe <= low:
            return nothing, empty, None
        page = await ask(probe, size)
        if page.identities or page.more is False:
            high, found = probe, page if page.identities else nothing
        else:
            low, step = probe, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        page = await ask(middle, size)
        if page.identities:
            high, found = middle, page
        elif page.more is False and found is nothing:
            high = middle  # behind the end
        else:
            low = middle
    return (
        found,
        high,
        None if found is nothing else f"PEMS sent no line from position {empty:,} to {high - 1:,}, and more after it.",
    )


def _after(place: Place, page: GridPage, start: int, size: int, gap: str | None) -> Place:
    """The place after a page that begins at this position, before which this was left out."""
    lines = page.identities
    fresh = _fresh(place, lines, start)
    reached = start + len(lines) - 1 if lines else place.position
    announced = place.announced if place.announced is not None else _total(page)
    named = page.following if page.following and page.following != str(reached + 1) else None
    return Place(
        code=place.code,
        position=reached,
        seen=_some(lines) if lines else place.seen,
        following=named,
        lines=place.lines + fresh,
        announced=announced,
        deepest=max(place.deepest, reached),
        idle=0 if fresh and reached > place.deepest else place.idle + 1,
        ended=page.more is False,
        short=page.more is True and len(lines) < size,
        gap=place.gap or gap,
        doubt=f"PEMS said that no line follows after {place.lines:,}, and sent more."
        if fresh and place.ended
        else place.doubt,
    )


def _progressing(place: Place, after: Place) -> Place:
    """The place after; raises Failed where one page after another brings nothing further down."""
    if after.idle > MAX_IDLE:
        raise Failed(f"PEMS sends no further line after {place.deepest:,}, on {MAX_IDLE} pages in a row.")
    return after


def _ends(page: GridPage, reached: int, size: int) -> bool:
    """Whether all that PEMS says is that there is no more. A full page never is the last: the next one tells."""
    return page.more is False and len(page.identities) < size and (_total(page) or 0) <= reached


def _brings_nothing(page: GridPage, place: Place, size: int) -> bool:
    """Whether there is no line after the last one that was seen."""
    lines = page.identities
    return not lines or (lines[-1:] == list(place.seen[-1:]) and (len(lines) == 1 or len(lines) < size))


def _says_more(page: GridPage, reached: int) -> bool:
    return page.more is True or (_total(page) or 0) > reached


def _total(page: GridPage) -> int | None:
    """How many lines the listing has; None where RECORDS does not say, or only how many came now."""
    return page.total if page.total is not None and page.total > len(page.identities) else None


def _doubt(after: Place, page: GridPage) -> str | None:
    """What is doubtful at the end."""
    if after.announced is not None and after.lines < after.announced:
        return f"PEMS announced {after.announced:,} lines and sent {after.lines:,}."
    if page.more:
        return f"PEMS says that more follows after {after.lines:,} lines, and sends none."
    return after.doubt or (after.gap if after.announced is None else None)


def _left_out(place: Place, page: GridPage, start: int) -> str | None:
    """What a page leaves out, or the one before it: PEMS counts positions where it sent no line."""
    lines = page.identities
    asked = start if place.following is None else _position(place.following)
    named = None if page.following is None else _position(page.following)
    if asked is not None and named is not None and named > asked + len(lines):
        return f"PEMS sent {len(lines):,} lines from position {asked:,}, and goes on at {named:,}."
    if place.short and place.seen[-1:] and place.seen[-1] in lines:
        position = start + lines.index(place.seen[-1])
        if position > place.position:
            return f"PEMS sent {place.position:,} lines up to its position {position:,}."
    return None


def _stuck(place: Place, page: GridPage) -> str | None:
    """That PEMS leads back, or nowhere; raises Failed where it leads to no position."""
    if not page.following or place.following is None or _number(page.following) > _number(place.following):
        return None
    return f"PEMS leads from position {place.following} to {page.following}."


def _fresh(place: Place, lines: list[str], start: int) -> int:
    """How many lines follow the last one that was seen."""
    known, ahead = set(place.seen), place.position - start
    if place.seen and 0 <= ahead < len(lines) and lines[ahead] == place.seen[-1]:
        return len(lines) - ahead - 1  # though the same comes once more
    return next((back for back, line in enumerate(reversed(lines)) if line in known), len(lines))


def _number(position: str) -> int:
    number = _position(position)
    if number is None:
        raise Failed(f"PEMS names a position that is no number: {position[:40]!r}.")
    return number


def _position(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None


def _some(identities: list[str]) -> tuple[str, ...]:
    """The first line of a page, and lines ever nearer to its end: some of them stay, whatever is deleted."""
    distances = [2**power for power in range(len(identities).bit_length())]
    return (identities[0], *(identities[-distance] for distance in reversed(distances)))
