"""The proof that each relation with tenants' rows is bound to the organization that a statement is run for.

A cell is what says whose a row is: a column of a relation at hand, of a subquery, a parameter. It is bound if it is one
that the caller is given, or if in each row that counts it equals one that is bound. Such equalities come from the
conditions that every row of a query level has to meet: its WHERE, and the ON of its joins, as conjunctions. The ON of
an outer join binds the side alone that it may leave out. What stands under OR, NOT or CASE binds nothing. A row that is
read again by its place (ctid) is whose it was. The bound cells are the least set that all this yields; who is not in it
was not proved.

What the proof does not understand it refuses: a new form of SQL is taught to it here, not waved through.
"""

from collections.abc import Iterable, Iterator

from app.base.fence.relations import FUNCTIONS, KEY, NAMESAKES, OF_ALL, TEMPORARY, UNSEEN, tenant_key
from app.base.fence.scope import Cell, Level, Output, Source, apart, places, reachable
from app.base.fence.trees import Node, bare, colnames, conjuncts, is_false, joined, pairs, tree

ONE, SEVERAL = "organization", "organizations"  # parameters that say who is asked for
PLACE = "ctid"


class _Several:
    """A cell that a condition compares with, in the place of an expression."""

    def __init__(self, cell: Cell):
        self.cell = cell


class Proof:
    """Of one statement. `names` are those of its parameters; `root` is what lies around it.

    `view`: it is the definition of a view, whose readers bind its organization_id. So whatever has such a column and
    yields it is asked for one organization; that holds for each query of it, too. `plpgsql`: it stands in such a
    function, which refuses a name that means a variable and a column.
    """

    def __init__(self, names: tuple[str, ...], root: Level | None = None, *, view: bool = False, plpgsql: bool = False):
        self._names = names
        self._root = root
        self._view = view
        self._plpgsql = plpgsql
        self._cells: list[tuple[Cell, str]] = []
        self._seen: set[int] = set()
        self._outputs: dict[int, Output] = {}
        self.caller = Cell()
        self._anchors: list[Cell] = []  # one for each place where several organizations come in
        self._inductions: list[tuple[Cell, Cell | None]] = []  # of a recursion: its rows before, and what comes of them
        self._read_before: set[int] = set()
        self._rows_apart: set[Cell] = set()  # of a query of WITH that is read again: another row than where it was read
        self.faults: list[str] = []

    def run(self, statement: Node) -> list[str]:
        """What is not bound, in words; [] where all is."""
        self._statement(statement, self._root)
        for node in tree(statement):
            if id(node) in self._seen:
                continue
            match type(node).__name__:
                case "RangeVar":
                    self.faults.append(f"{node.relname} stands where the proof does not look")
                case "FuncCall" if node.funcname[-1].sval in FUNCTIONS.keys() | OF_ALL | UNSEEN:
                    self.faults.append(f"{node.funcname[-1].sval}() stands where the proof does not look")
        alone = self._bound(None, self._rows_apart)
        tries = [alone, *(self._bound(anchor, alone) for anchor in self._anchors)]
        return [*self.faults, *min(map(self._outside, tries), key=len)]

    def _outside(self, bound: set[Cell]) -> list[str]:
        return [who for cell, who in self._cells if cell not in bound]

    def _bound(self, anchor: Cell | None, alone: set[Cell]) -> set[Cell]:
        """Who is bound to the caller, or to one and the same of several organizations; of rows apart, those in `alone`.

        What a recursion assumes of its rows before is given up where it does not hold for those that come of them.
        """
        given = {self.caller} if anchor is None else {self.caller, anchor}
        assumed = [cell for _, cell in self._inductions if cell]
        cells = reachable([*(cell for cell, _ in self._cells), *assumed]) - (self._rows_apart - alone)
        while True:
            bound = _closure(given, cells)
            broken = {cell for cell, then in self._inductions if cell in bound and then not in bound}
            if not broken:
                return bound
            cells -= broken

    def _want(self, cell: Cell | None, who: str) -> None:
        self._cells.append((cell or Cell(), who))

    # -- statements ---------------------------------------------------------------------------------------------------

    def _statement(self, node: Node, around: Level | None) -> Output:
        match type(node).__name__:
            case "SelectStmt":
                return self._select(node, around)
            case "InsertStmt":
                return self._insert(node, around)
            case "UpdateStmt":
                return self._update(node, around)
            case "DeleteStmt":
                return self._delete(node, around)
            case "MergeStmt":
                return self._merge(node, around)
            case "ExplainStmt":
                return self._statement(node.query, around)
            case "ReturnStmt":
                self._expressions(Level(around), node.returnval)
                return Output()
            case "VariableSetStmt":
                return Output()
            case "CreateStmt" if node.relation.relname in TEMPORARY and node.relation.relpersistence == "t":
                self._seen.add(id(node.relation))
                return Output()
            case "TruncateStmt" if all(each.relname in TEMPORARY for each in node.relations):
                self._seen.update(id(each) for each in node.relations)
                return Output()
            case name:
                self.faults.append(f"a {name} is of all organizations")
                self._seen.update(id(each) for each in tree(node))
                return Output()

    def _level(self, node: Node, around: Level | None) -> Level:
        """A new level with the queries of its WITH."""
        level = Level(around)
        clause = node.withClause
        for each in clause.ctes if clause else ():
            level.queries[each.ctename] = self._common(each, level, recursive=clause.recursive)
        return level

    def _common(self, node: Node, level: Level, *, recursive: bool) -> Output:
        names = [each.sval for each in node.aliascolnames or ()]
        query = node.ctequery
        if recursive and type(query).__name__ == "SelectStmt" and query.larg is not None:
            # By induction: the rows before are bound, and what comes of them is, or it was not proved.
            first = self._select(query.larg, level).renamed(names)
            before = Output(open_ended=bool(first.stars))
            before.columns = [(name, Cell(cell) if cell else None) for name, cell in first.columns if not first.stars]
            level.queries[node.ctename] = before
            self._seen.add(id(query.larg))
            then = self._select(query.rarg, level)
            self._inductions += [(cell, then.at(place)) for place, (_, cell) in enumerate(before.columns) if cell]
            return self._both(first, then).renamed(names)
        return self._statement(query, level).renamed(names)

    def _select(self, node: Node, around: Level | None) -> Output:
        level = self._level(node, around)
        if node.larg is not None:
            self._expressions(level, node.sortClause, node.limitCount, node.limitOffset)
            self._locks(node)
            return self._both(self._select(node.larg, level), self._select(node.rarg, level))
        if node.valuesLists:
            self._expressions(level, node.valuesLists, node.sortClause, node.limitCount, node.limitOffset)
            return self._values(node.valuesLists, level)
        for each in node.fromClause or ():
            self._from(each, level)
        if node.intoClause is not None:
            self.faults.append("SELECT INTO makes a table")
        self._conditions(node.whereClause, level, [*level.sources.values()])
        self._expressions(
            level, node.distinctClause, node.targetList, node.whereClause, node.groupClause, node.havingClause,
            node.windowClause, node.sortClause, node.limitOffset, node.limitCount,
        )  # fmt: skip
        self._locks(node)
        found = self._targets(node.targetList, level)
        if self._view:
            self._asked(node.targetList, found, level)
        return found

    def _asked(self, targets: Iterable[Node] | None, found: Output, level: Level) -> None:
        """A view's readers ask for one organization, of each column that yields it."""
        cells = [source.cell(KEY) for source in found.stars if source.has(KEY)]
        for each in targets or ():
            cell, source = self._column(each.val, level)
            if cell and source in level.sources.values() and (each.name or each.val.fields[-1].sval) == KEY:
                cells.append(cell)
        for cell in cells:
            cell.ways.append((self.caller,))

    def _locks(self, node: Node) -> None:
        """FOR UPDATE OF names what stands in FROM."""
        for each in node.lockingClause or ():
            self._seen.update(id(relation) for relation in each.lockedRels or ())

    def _both(self, one: Output, other: Output) -> Output:
        """Of a set operation: a column is bound where it is on both sides."""
        made = Output()
        if one.stars or other.stars:
            return made
        for place, (name, left) in enumerate(one.columns):
            right = other.at(place)
            made.columns.append((name, Cell(left, right) if left and right else None))
        return made

    def _values(self, rows: Iterable[Iterable[Node]], level: Level) -> Output:
        made = Output()
        columns = zip(*(list(row) for row in rows), strict=True)
        for place, column in enumerate(columns, 1):
            cells = [self._cell(each, level) for each in column]
            known = [cell for cell in cells if cell]
            made.columns.append((f"column{place}", Cell(*known) if len(known) == len(cells) else None))
        return made

    def _targets(self, targets: Iterable[Node] | None, level: Level) -> Output:
        made = Output()
        for each in targets or ():
            value, name = each.val, each.name
            if type(value).__name__ == "ColumnRef":
                fields = value.fields
                if type(fields[-1]).__name__ == "A_Star":
                    starred = level.sources.values() if len(fields) == 1 else [self._source(fields[-2].sval, level)]
                    made.stars += [source for source in starred if source]
                    continue
                name = name or fields[-1].sval
            made.columns.append((name, self._cell(value, level)))
        return made

    def _insert(self, node: Node, around: Level | None) -> Output:
        level = self._level(node, around)
        given = self._select(node.selectStmt, level) if node.selectStmt else Output()
        key, source = self._target(node.relation, level)
        columns = [each.name for each in node.cols or ()]
        if key is not None:
            value = given.at(columns.index(key)) if key in columns else None
            if value:
                source.cell(key).ways.append((value,))
            excluded = Output()
            excluded.columns.append((key, value))
            level.sources["excluded"] = excluded.source()
        conflict = node.onConflictClause
        if conflict is not None:
            infer = conflict.infer
            arbiters = [each.name for each in infer.indexElems or ()] if infer else []
            # The row that is there already is of the same organization, if that is part of what they have in common.
            if conflict.action == 2 and key is not None and key not in arbiters:
                self._want(None, f"{node.relation.relname}: ON CONFLICT ... DO UPDATE by what does not contain {key}")
            self._expressions(level, conflict.targetList, conflict.whereClause, infer)
            self._assigned(conflict.targetList, key, level, node.relation.relname)
        level.sources.pop("excluded", None)
        return self._returning(node, level)

    def _update(self, node: Node, around: Level | None) -> Output:
        level = self._level(node, around)
        key, _ = self._target(node.relation, level)
        for each in node.fromClause or ():
            self._from(each, level)
        self._conditions(node.whereClause, level, [*level.sources.values()])
        self._expressions(level, node.targetList, node.whereClause)
        self._assigned(node.targetList, key, level, node.relation.relname)
        return self._returning(node, level)

    def _delete(self, node: Node, around: Level | None) -> Output:
        level = self._level(node, around)
        self._target(node.relation, level)
        for each in node.usingClause or ():
            self._from(each, level)
        self._conditions(node.whereClause, level, [*level.sources.values()])
        self._expressions(level, node.whereClause)
        return self._returning(node, level)

    def _merge(self, node: Node, around: Level | None) -> Output:
        level = self._level(node, around)
        key, target = self._target(node.relation, level)
        self._from(node.sourceRelation, level)
        # What does not match is inserted: the condition binds the target alone.
        self._conditions(node.joinCondition, level, [target])
        self._expressions(level, node.joinCondition)
        for each in node.mergeWhenClauses:
            if each.matchKind == 1:
                self.faults.append("WHEN NOT MATCHED BY SOURCE reaches the rows of all organizations")
            self._expressions(level, each.condition, each.targetList, each.values)
            if each.values is not None and key is not None:
                columns = [item.name for item in each.targetList or ()]
                value = each.values[columns.index(key)] if key in columns else None
                self._want(self._cell(value, level), f"{node.relation.relname}: the {key} of what is inserted")
            elif each.targetList:
                self._assigned(each.targetList, key, level, node.relation.relname)
        return self._returning(node, level)

    def _target(self, node: Node, level: Level) -> tuple[str | None, Source]:
        """The relation that is written, and the column that says whose its rows are."""
        source = self._relation(node)
        level.sources[node.alias.aliasname if node.alias else node.relname] = source
        return self._key(node), source

    def _returning(self, node: Node, level: Level) -> Output:
        clause = node.returningClause
        targets = getattr(clause, "exprs", clause)
        self._expressions(level, targets)
        return self._targets(targets, level)

    def _assigned(self, targets: Iterable[Node] | None, key: str | None, level: Level, name: str) -> None:
        """No row goes over to another organization."""
        for each in targets or ():
            if key is not None and each.name == key:
                self._want(self._cell(each.val, level), f"{name}: the new {key}")

    # -- what is read -------------------------------------------------------------------------------------------------

    def _key(self, node: Node) -> str | None:
        try:
            return tenant_key(node.schemaname, node.relname)
        except KeyError:
            return None

    def _relation(self, node: Node) -> Source:
        """A stored relation: one with tenants' rows has to be bound."""
        self._seen.add(id(node))
        try:
            key = tenant_key(node.schemaname, node.relname)
        except KeyError:
            self.faults.append(f"{node.relname} is declared nowhere (app/base/fence/relations.py)")
            key = None
        # Of its columns one is known; who has an organization_id, the declaration says.
        source = Source(lambda _: None, lambda column: column == key, lambda column: column != KEY)
        if key is not None:
            alias = f" AS {node.alias.aliasname}" if node.alias else ""
            if node.alias and node.alias.colnames:
                self.faults.append(f"{node.relname} renames its columns")
            self._want(source.cell(key), f"{node.relname}{alias}: its {key}")
            # Whose a row is, its place says as well.
            place = source.cell(PLACE)
            place.place_in = f"{node.schemaname}.{node.relname}"
            place.ways.append((source.cell(key),))
            source.cell(key).ways.append((place,))
        return source

    def _from(self, node: Node, level: Level) -> list[Source]:
        """Enter an item of FROM into the level, with its conditions; what it consists of."""
        match type(node).__name__:
            case "RangeVar":
                query = None if node.schemaname else self._query(node.relname, level)
                if query is None:
                    source = self._relation(node)
                else:
                    self._seen.add(id(node))
                    again = id(query) in self._read_before
                    self._read_before.add(id(query))
                    source = self._read(query.renamed(colnames(node.alias)), node.relname, again=again)
                return self._enter(level, node.alias.aliasname if node.alias else node.relname, source)
            case "RangeSubselect":
                # What is not lateral sees nothing of the level, but what lies around it, and WITH.
                seen = level if node.lateral else apart(level)
                found = self._select(node.subquery, seen).renamed(colnames(node.alias))
                alias = node.alias.aliasname if node.alias else f"({id(node)})"
                return self._enter(level, alias, self._read(found, alias))
            case "RangeFunction":
                return self._function(node, level)
            case "RangeTableSample":
                self._expressions(level, node.args, node.repeatable)
                return self._from(node.relation, level)
            case "JoinExpr":
                return self._join(node, level)
            case name:
                self.faults.append(f"a {name} stands in FROM")
                return []

    def _read(self, query: Output, alias: str, *, again: bool = False) -> Source:
        """A query to be read from. Of a view each is bound anew. Read again, it is at another row, of whomever among
        several organizations.
        """
        if not self._view or not query.has(KEY):
            if not again:
                return query.source()
            source = Source(lambda column: self._apart(query.cell(column)), query.has)
            if query.has(KEY):
                self._want(source.cell(KEY), f"{alias}, read again: its {KEY}")
            return source
        source = Source(lambda _: None, query.has)
        self._want(source.cell(KEY), f"{alias}: its {KEY}")
        return source

    def _apart(self, cell: Cell | None) -> Cell | None:
        if cell is None:
            return None
        made = Cell(cell)
        self._rows_apart.add(made)
        return made

    def _enter(self, level: Level, alias: str, source: Source) -> list[Source]:
        if alias in level.sources:
            self.faults.append(f"two are called {alias}: give each an alias")
        level.sources[alias] = source
        return [source]

    def _query(self, name: str, level: Level | None) -> Output | None:
        """That of WITH, the nearest of that name."""
        while level is not None:
            if name in level.queries:
                return level.queries[name]
            level = level.around
        return None

    def _function(self, node: Node, level: Level) -> list[Source]:
        """Columns are bound only of what unnests the organizations that are asked for."""
        self._expressions(level, node.functions)
        alias = node.alias.aliasname if node.alias else f"({id(node)})"
        names = colnames(node.alias) or [alias]
        made = Output()
        call: Node = node.functions[0][0]
        alone = len(node.functions) == 1 and type(call).__name__ == "FuncCall"
        arguments = list(call.args or ()) if alone and call.funcname[-1].sval == "unnest" else []
        for place, name in enumerate(names):
            several = place < len(arguments) and self._is_several(arguments[place])
            made.columns.append((name, self._anchor() if several else None))
        for each in node.coldeflist or ():
            made.columns.append((each.colname, None))
        # What it yields may have columns that are named nowhere here.
        return self._enter(level, alias, Source(made.cell, made.has, lambda _: True))

    def _join(self, node: Node, level: Level) -> list[Source]:
        left, right = self._from(node.larg, level), self._from(node.rarg, level)
        if node.isNatural:
            self.faults.append("a NATURAL JOIN does not say by what")
        # INNER, LEFT, FULL, RIGHT
        into = {0: [*left, *right], 1: right, 2: [], 3: left}.get(int(node.jointype), [])
        for name in (each.sval for each in node.usingClause or ()):
            ones, others = ([source for source in side if source.has(name)] for side in (left, right))
            if len(ones) == len(others) == 1:
                one, other = ones[0], others[0]
                if one in into:
                    one.cell(name).ways.append((other.cell(name),))
                if other in into:
                    other.cell(name).ways.append((one.cell(name),))
                level.merged[name] = [one, other]
        self._conditions(node.quals, level, into)
        self._expressions(level, node.quals)
        return [*left, *right]

    # -- conditions ---------------------------------------------------------------------------------------------------

    def _conditions(self, node: Node, level: Level, into: list[Source]) -> None:
        """What a conjunction binds of these sources; what has FALSE among its conditions reads nothing."""
        if any(is_false(each) for each in conjuncts(node)):
            for source in into:
                source.empty(self.caller)
        for one, other in self._equalities(node, level):
            for this, that in ((one, other), (other, one)):
                cell, whose = self._column(this, level)
                if cell and whose in into:
                    value = self._cell(that, level)
                    if value and (cell.place_in is None or places(value) == {cell.place_in}):
                        cell.ways.append((value,))

    def _equalities(self, node: Node, level: Level) -> Iterator[tuple[Node, Node]]:
        for each in conjuncts(node):
            yield from self._equality(each, level)

    def _equality(self, node: Node, level: Level) -> Iterator[tuple[Node, Node]]:
        match type(node).__name__:
            case "A_Expr" if node.kind == 0 and joined(node.name) == "=":
                yield from pairs(node.lexpr, node.rexpr)
            case "A_Expr" if node.kind == 6 and joined(node.name) == "=" and len(node.rexpr) == 1:  # IN (one)
                yield from pairs(node.lexpr, node.rexpr[0])
            case "A_Expr" if node.kind == 1 and joined(node.name) == "=":  # = ANY
                if self._is_several(node.rexpr):
                    yield node.lexpr, _Several(self._anchor())
            case "SubLink" if node.subLinkType == 2 and (
                not node.operName or joined(node.operName) == "="
            ):  # IN, = ANY
                found = self._subquery(node, level)
                tested = node.testexpr
                listed = tested.args if type(tested).__name__ == "RowExpr" else [tested]
                for place, each in enumerate(listed):
                    cell = found.at(place)
                    if cell:
                        yield each, _Several(cell)

    def _anchor(self) -> Cell:
        anchor = Cell()
        self._anchors.append(anchor)
        return anchor

    def _is_several(self, node: Node) -> bool:
        node = bare(node)
        return type(node).__name__ == "ParamRef" and self._parameter(node) == SEVERAL

    def _parameter(self, node: Node) -> str | None:
        return self._names[node.number - 1] if 0 < node.number <= len(self._names) else None

    def _column(self, node: Node, level: Level | None) -> tuple[Cell | None, Source | None]:
        """A column with what it is of."""
        node = bare(node)
        if type(node).__name__ != "ColumnRef" or type(node.fields[-1]).__name__ != "String":
            return None, None
        name = node.fields[-1].sval
        if len(node.fields) > 1:
            source = self._source(node.fields[-2].sval, level)
            return (source.cell(name), source) if source else (None, None)
        while level is not None:
            having = [source for source in level.sources.values() if source.has(name)]
            if len(having) == 1:
                return having[0].cell(name), having[0]
            if not having and not self._plpgsql and any(each.may_have(name) for each in level.sources.values()):
                return None, None
            if having:
                merged = level.merged.get(name, [])
                whole = len(merged) == len(having) and all(each in merged for each in having)
                return (Cell(*(each.cell(name) for each in merged)), None) if whole else (None, None)
            level = level.around
        return None, None

    def _source(self, alias: str, level: Level | None) -> Source | None:
        while level is not None:
            if alias in level.sources:
                return level.sources[alias]
            level = level.around
        return None

    def _cell(self, node: Node, level: Level) -> Cell | None:
        """The cell of an expression, where it is one."""
        node = bare(node)
        if isinstance(node, _Several):
            return node.cell
        match type(node).__name__:
            case "ParamRef":
                return self.caller if self._parameter(node) == ONE else None
            case "ColumnRef":
                return self._column(node, level)[0]
            case "SubLink" if node.subLinkType == 4:  # (SELECT ...)
                return self._subquery(node, level).at(0)
            case "CoalesceExpr":
                cells = [self._cell(each, level) for each in node.args]
                known = [cell for cell in cells if cell]
                return Cell(*known) if len(known) == len(cells) else None
        return None

    # -- expressions --------------------------------------------------------------------------------------------------

    def _subquery(self, node: Node, level: Level) -> Output:
        if id(node) not in self._outputs:
            self._outputs[id(node)] = self._select(node.subselect, level)
        return self._outputs[id(node)]

    def _expressions(self, level: Level, *nodes: Node) -> None:
        """Subqueries, and calls of functions that read tenants' rows, wherever they stand."""
        for node in tree(nodes, stop="SubLink"):
            match type(node).__name__:
                case "SubLink":
                    self._expressions(level, node.testexpr)
                    self._subquery(node, level)
                case "FuncCall":
                    self._call(node, level)

    def _call(self, node: Node, level: Level) -> None:
        self._seen.add(id(node))
        names = tuple(each.sval for each in node.funcname)
        name = names[-1]
        if name in UNSEEN:
            self.faults.append(f"{name} runs what nobody has proved")
        if name in OF_ALL:
            self.faults.append(f"{name}() is of all organizations")
        if name not in FUNCTIONS or names in NAMESAKES:
            return
        arguments, place = list(node.args or ()), FUNCTIONS[name]
        given = arguments[place] if place < len(arguments) else None
        if type(given).__name__ == "NamedArgExpr":
            given = next((each.arg for each in arguments if getattr(each, "name", None) == ONE), None)
        self._want(self._cell(given, level), f"{name}(): the organization that it is called with")


def _closure(given: set[Cell], cells: set[Cell]) -> set[Cell]:
    """What is bound if those given are."""
    bound, reached = set(given), True
    while reached:
        reached = False
        for cell in cells - bound:
            if any(all(each in bound for each in way) for way in cell.ways):
                bound.add(cell)
                reached = True
    return bound


def body_proof(
    function: str, parameters: tuple[str, ...], variables: Iterable[str] = (), *, plpgsql: bool = False
) -> Proof:
    """Of a statement in a function's body, which calls parameters by name or number, and variables of its own.

    `organization` among the parameters is the caller's: each call is proved to give that.
    """
    level = Level(None)
    proof = Proof(parameters, level, plpgsql=plpgsql)
    made = Output()
    made.columns = [(name, proof.caller if name == ONE else None) for name in (*parameters, *variables)]
    level.sources[function] = made.source()
    return proof
