-- Begin a new incarnation where the database is another one than the last was begun in: restored from a backup, copied,
-- promoted from a replica. Its number is beyond all that a counter of the lost time can have reached; at random, since
-- the same backup may be restored twice.
-- $1 restored (boolean: somebody says so; a snapshot of the disks is put back without a trace).
-- Returns number; no row where all is as it was, or where nobody can have seen a counter yet.
-- All organizations: a database is restored as a whole; the greatest revision alone is looked at.
WITH here AS (
    -- The table's own id tells a restore into the same database. The timeline is that of what is written now: the
    -- control file has it only from the first checkpoint on, minutes after a replica was promoted.
    SELECT concat_ws('/', s.system_identifier, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint,
                     d.oid, 'public.incarnation'::regclass::oid) AS place
      FROM pg_control_system() AS s, pg_database AS d
     WHERE d.datname = current_database()
),
seen AS (
    SELECT greatest(max(d.revision), (SELECT max(w.revision) FROM public.workspace AS w)) AS revision
      FROM public.dataset AS d
),
begun AS (
    UPDATE public.incarnation AS i
       SET place = h.place, began_at = now(),
           number = CASE WHEN (i.place <> '' OR $1) AND s.revision IS NOT NULL
                         THEN greatest(i.number, s.revision) + 2 ^ 32 + floor(random() * 2 ^ 40)::bigint
                         ELSE i.number END
      FROM here AS h, seen AS s, public.incarnation AS was
     WHERE i.place <> h.place OR $1
    RETURNING i.number, i.number > was.number AS another
)
SELECT b.number FROM begun AS b WHERE b.another;
