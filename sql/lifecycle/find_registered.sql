-- The revision of the version in use behind which commits are held against another version: the last one before that
-- was registered, with ten minutes to spare, since the clocks of processes differ.
-- $1 organization, $2 schema (the other's).
-- Returns revision (-1: before the first one).
-- Plan: history's primary key backwards, as far as what came since.
SELECT coalesce((SELECT h.revision
                   FROM pfa.history AS h
                  WHERE h.organization_id = $1
                    AND h.at < (SELECT min(c.registered_at) - interval '10 minutes'
                                  FROM public.contract AS c
                                 WHERE c.organization_id = $1 AND c.schema_name = $2)
                  ORDER BY h.revision DESC
                  LIMIT 1), -1) AS revision;
