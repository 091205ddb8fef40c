"""What a query level reads, and what is known of it: cells, and what makes them bound."""

from collections.abc import Callable, Iterable


class Cell:
    """Bound where all cells of one of its ways are. `place_in`: the relation, of a row's place in it."""

    __slots__ = ("place_in", "ways")

    def __init__(self, *way: "Cell", place_in: str | None = None):
        self.place_in = place_in
        self.ways: list[tuple[Cell, ...]] = [way] if way else []


class Source:
    """Something with rows at a query level, under its alias."""

    def __init__(
        self,
        find: Callable[[str], Cell | None],
        named: Callable[[str], bool],
        may_have: Callable[[str], bool] = lambda _: False,
    ):
        self._find = find
        self._named = named  # whether it is known to have a column of that name
        self._may_have = may_have  # whether it may have one all the same
        self._cells: dict[str, Cell] = {}

    def cell(self, column: str) -> Cell:
        """Its column as this level sees it."""
        if column not in self._cells:
            found = self._find(column)
            self._cells[column] = Cell(found) if found else Cell()
        return self._cells[column]

    def empty(self, caller: Cell) -> None:
        """It has no rows here, and so none of others."""
        for cell in self._cells.values():
            cell.ways.append((caller,))

    def has(self, column: str) -> bool:
        """Whether an unqualified name means its column."""
        return self._named(column)

    def may_have(self, column: str) -> bool:
        """Whether an unqualified name may mean its column, as far as anybody knows."""
        return self._may_have(column)


class Output:
    """The columns that a query yields: names and cells, in order; `stars` are sources whose columns are all there."""

    def __init__(self, *, open_ended: bool = False) -> None:
        self.columns: list[tuple[str | None, Cell | None]] = []
        self.stars: list[Source] = []
        self.open_ended = open_ended  # it has columns that are not known

    def cell(self, name: str) -> Cell | None:
        found = [cell for known, cell in self.columns if known == name]
        if found:
            return found[0] if len(found) == 1 else None
        starred = [source for source in self.stars if source.has(name)]
        return starred[0].cell(name) if len(starred) == 1 else None

    def has(self, name: str) -> bool:
        return any(known == name for known, _ in self.columns) or any(source.has(name) for source in self.stars)

    def at(self, place: int) -> Cell | None:
        """By its place, where no star has moved it."""
        return None if self.stars or place >= len(self.columns) else self.columns[place][1]

    def renamed(self, names: Iterable[str]) -> "Output":
        """Under the names of an alias's list, the first of them."""
        listed = list(names)
        if not listed:
            return self
        made = Output(open_ended=self.open_ended or bool(self.stars))
        for place, name in enumerate(listed):
            made.columns.append((name, self.at(place)))
        if not self.stars:
            made.columns += self.columns[len(listed) :]
        return made

    def source(self) -> Source:
        """To be read under an alias."""
        return Source(self.cell, self.has, lambda _: self.open_ended or bool(self.stars))


class Level:
    """One query level: what is read there, and what lies around it."""

    def __init__(self, around: "Level | None"):
        self.around = around
        self.sources: dict[str, Source] = {}
        self.merged: dict[str, list[Source]] = {}  # columns of USING
        self.queries: dict[str, Output] = {}  # of WITH


def reachable(cells: list[Cell]) -> set[Cell]:
    found, left = set[Cell](), list(cells)
    while left:
        cell = left.pop()
        if cell not in found:
            found.add(cell)
            left += [each for way in cell.ways for each in way]
    return found


def places(cell: Cell) -> set[str]:
    """The relations of whose rows a cell is the place."""
    return {each.place_in for each in reachable([cell]) if each.place_in}


def apart(level: Level) -> Level:
    """The level without what is read there."""
    seen = Level(level.around)
    seen.queries = level.queries
    return seen
