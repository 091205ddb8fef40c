"""Contracts as documents of the Open Data Contract Standard 3.x, and back.

`text` is YAML, bounded; `writing` and `reading` are the two directions. What the standard has no word for stands in
customProperties of the vendor `vanguard`, by our own words, so that nothing is lost on the way there and back.
`schema.json` is the standard's own JSON schema, under the LICENSE beside it.
"""

from app.contracts.odcs.reading import Note, from_odcs
from app.contracts.odcs.writing import to_odcs

__all__ = ["Note", "from_odcs", "to_odcs"]
