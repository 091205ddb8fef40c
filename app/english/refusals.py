"""What is said about a sentence that has no meaning, or more than one: what, where, and what could stand there."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from app.base.errors import AmbiguousQuery, UnknownWord, UnreadableQuery, VanguardError
from app.engine.query.catalogue import Catalogue
from app.engine.query.model import Query, QueryAggregate
from app.english.figures import default_name
from app.english.grammar import MAX_SENTENCE
from app.english.lexicon import COMPARED, Lexicon, lexicon_of, nearest
from app.english.misfit import Misfit
from app.english.scope import DatasetNames, Scope
from app.english.sentences import Name, Sentence

MOST_SHOWN = 10
UNNUMBERED = re.compile(r"(top|bottom) ", re.IGNORECASE)
NUMBER = "a whole number"


def refusal(
    misfit: Misfit, text: str, sentence: Sentence | None, catalogue: Catalogue, write: Callable[[Query], str]
) -> VanguardError:
    """The error that tells a caller about a misfit."""
    dataset = _dataset_of(sentence, text, catalogue)
    at = f"At character {misfit.place + 1}"
    word = f", {misfit.word[:80]!r}" if misfit.word else ""
    shown = [write(query) for query in example_queries(catalogue, dataset)]
    more: dict[str, Any] = {"word": misfit.word[:80], "place": misfit.place, "examples": shown}
    if misfit.unknown and UNNUMBERED.match(misfit.word):
        return UnreadableQuery(f"{at}{word}: a whole number is wanted behind it, top 10.", expected=[NUMBER], **more)
    if misfit.unknown:
        # What is called just so is something else than what could stand there.
        candidates = [each for each in nearest(misfit.word, _names(catalogue, dataset)) if each != misfit.word]
        meant = f" Near it: {', '.join(candidates)}." if candidates else ""
        return UnknownWord(f"{at}{word}: {misfit.message}.{meant}", candidates=candidates, **more)
    expected = list(misfit.expected)
    could = f" What could stand there: {'; '.join(expected)}." if expected else ""
    said = f" Sentences that can be read: {' / '.join(shown)}" if shown else ""
    return UnreadableQuery(f"{at}{word}: {misfit.message}.{could}{said}", expected=expected, **more)


def ambiguous(found: Sequence[tuple[Query, Scope]], write: Callable[[Query], str]) -> AmbiguousQuery:
    """The error for a sentence that several datasets fit, or one in several ways; or for a word of it."""
    if len(found) > 1:
        candidates = [write(query) for query, _ in found[:MOST_SHOWN]]
        more = f" (and {len(found) - MOST_SHOWN} more)" if len(found) > MOST_SHOWN else ""
        detail = f"The sentence could mean: {' / '.join(candidates)}{more}. Say one of these."
        return AmbiguousQuery(detail, word="", place=0, candidates=candidates)
    word, place, ways = found[0][1].doubts[0]
    candidates = list(ways[:MOST_SHOWN])
    detail = f"At character {place + 1}, {word[:80]!r} names several things. Say which: {'; '.join(candidates)}."
    return AmbiguousQuery(detail, word=word[:80], place=place, candidates=candidates)


def idle(query: Query, place: int, name: Name, write: Callable[[Query], str]) -> AmbiguousQuery:
    """The error for `number of customers with orders`, of whose orders nothing is asked for: all customers, or those
    that have some.
    """
    join = query.joins[place]
    others = (*query.joins[:place], *query.joins[place + 1 :])
    matching = (*query.joins[:place], msgspec.structs.replace(join, type="inner"), *query.joins[place + 1 :])
    candidates = [write(msgspec.structs.replace(query, joins=joins)) for joins in (others, matching)]
    detail = (
        f"At character {name.place + 1}, {name.text[:80]!r} is joined, and nothing of it is asked for. The sentence "
        f"could mean: {' / '.join(candidates)}. Say one of these."
    )
    return AmbiguousQuery(detail, word=name.text[:80], place=name.place, candidates=candidates)


def example_queries(catalogue: Catalogue, dataset: str | None) -> list[Query]:
    """Two questions that a dataset can be asked: a figure by something where there is one, and rows."""
    if not catalogue.datasets:
        return []
    name = dataset or min(
        catalogue.datasets, key=lambda each: (_poverty(lexicon_of(catalogue.datasets[each].contract)), each)
    )
    contract = catalogue.datasets[name].contract
    types = lexicon_of(contract).types
    sums = [name for name, kind in types.items() if kind in ("number", "integer")]
    groups = [*contract.dimensions, *(field.name for field in contract.fields if field.type in ("enum", "text"))]
    rows = Query(dataset=name, fields=tuple(field.name for field in contract.fields[:2]), limit=10)
    if not groups:
        return [Query(dataset=name, aggregates=(COUNT,)), rows]
    if not sums:
        return [Query(dataset=name, group_by=(groups[0],), aggregates=(COUNT,)), rows]
    total = QueryAggregate(name=default_name("sum", sums[0]), function="sum", field=sums[0])
    ranked = Query(dataset=name, group_by=(groups[0],), aggregates=(total,), order=(f"-{total.name}",), limit=10)
    return [ranked, rows]


COUNT = QueryAggregate(name="count", function="count")


def _poverty(lexicon: Lexicon) -> int:
    """The less of figures a dataset has, the more."""
    return -len(lexicon.figures)


def _dataset_of(sentence: Sentence | None, text: str, catalogue: Catalogue) -> str | None:
    """The only dataset, the one that the sentence is about, or else the first that a word of it names."""
    if len(catalogue.datasets) == 1:
        return next(iter(catalogue.datasets))
    datasets = DatasetNames(catalogue)
    if sentence is not None and sentence.dataset is not None:
        found = datasets.find(sentence.dataset.text, quoted=sentence.dataset.quoted)
        return found[0] if len(found) == 1 else None
    named = (found for word in text[:MAX_SENTENCE].split() if (found := datasets.find(word.strip('",()'))))
    return next(named, (None,))[0]


def _names(catalogue: Catalogue, dataset: str | None) -> list[str]:
    """What could have been meant: names in the dataset and in those that can be joined to it, else in all; datasets."""
    names = [*_own(catalogue, dataset)] if dataset is not None else []
    names += sorted(catalogue.datasets)
    pairs = [{join.child, join.parent} for join in catalogue.joins]
    for other in sorted(catalogue.datasets):
        near = dataset is None or (other != dataset and {dataset, other} in pairs)
        if near and len(names) < COMPARED:
            names += [f"{other}.{name}" for name in _own(catalogue, other)]
    return list(dict.fromkeys(names))


def _own(catalogue: Catalogue, dataset: str) -> list[str]:
    lexicon = lexicon_of(catalogue.datasets[dataset].contract)
    return [*lexicon.types, *lexicon.figures]
