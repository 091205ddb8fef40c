"""The formats that there are, by the ending of their files."""

from app.exports.formats import Csv, Ndjson, Writer
from app.exports.workbook import Workbook

WRITERS: dict[str, type[Writer]] = {writer.ending: writer for writer in (Csv, Workbook, Ndjson)}
