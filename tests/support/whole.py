"""All that a database holds, to be compared with what it held before."""

from tests.support.world import World

TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) AS name
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm')
   AND n.nspname NOT LIKE 'pg\\_%'
   AND n.nspname <> 'information_schema'
"""
OBJECTS = """
SELECT format('%s %I.%I', c.relkind, n.nspname, c.relname)
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname NOT LIKE 'pg\\_%'
 UNION ALL
SELECT format('column %s.%I %s %s', a.attrelid::regclass, a.attname, a.atttypid::regtype, a.attnum)
  FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname NOT LIKE 'pg\\_%' AND a.attnum > 0
 UNION ALL
SELECT format('function %s', p.oid::regprocedure)
  FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE n.nspname NOT LIKE 'pg\\_%'
 UNION ALL
SELECT 'schema ' || nspname FROM pg_namespace
"""


async def whole(world: World, *but: str) -> dict[str, str]:
    """A digest of the rows of each table, but for those of these names; and of every relation, column and function.
    Sequences are none of it: what is taken back has taken numbers all the same.
    """
    tables = [name for (name,) in await world.db.fetch(TABLES) if name not in but]
    digests = " UNION ALL ".join(
        f"SELECT '{table}', count(*) || ' ' || coalesce(md5(string_agg(t::text, '' ORDER BY t::text)), '')"
        f" FROM {table} AS t"
        for table in tables
    )
    found = dict(await world.db.fetch(digests))
    objects = sorted(text for (text,) in await world.db.fetch(OBJECTS))
    return found | {"objects": "\n".join(objects)}
