-- The ids of changes go on from the new incarnation's number, too: a retry names them. $1 number (bigint).
SELECT setval(pg_get_serial_sequence('pfa.change', 'id'), greatest($1, max(c.id))) FROM pfa.change AS c;
