-- The ids of changes go on from the new incarnation's number, too: a retry names them. $1 number (bigint).
-- All organizations: a database is restored as a whole, and they share a counter of changes.
SELECT setval(pg_get_serial_sequence('pfa.change', 'id'), greatest($1, max(c.id))) FROM pfa.change AS c;
