-- Nothing is staged any more: another portion follows in the same transaction. No parameters. Returns nothing.
DELETE FROM staged;
