-- The revision of the version in use that another one was filled behind: the last before its last backfill began, or,
-- where there was none, before it was registered. What was committed later is not in it.
-- $1 organization, $2 beside (the other's address), $3 schema (the other's).
-- Returns revision (-1: before the first one).
-- Plan: history's primary key backwards, as far as what came since.
SELECT coalesce((SELECT h.revision
                   FROM pfa.history AS h
                  WHERE h.organization_id = $1
                    AND h.at < coalesce((SELECT max(r.started_at)
                                           FROM public.sync_run AS r
                                          WHERE r.organization_id = $1 AND r.dataset = $2 AND r.kind = 'backfill'
                                            AND r.state = 'succeeded'),
                                        (SELECT min(c.registered_at)
                                           FROM public.contract AS c
                                          WHERE c.organization_id = $1 AND c.schema_name = $3))
                  ORDER BY h.revision DESC
                  LIMIT 1), -1) AS revision;
