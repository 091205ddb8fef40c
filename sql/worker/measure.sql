-- What there is to watch of these organizations' dataset: seconds since the last pull that succeeded began (NULL:
-- never), what waits in the outbox, what waits for a person, until when the circuit is open, and reports of drift that
-- nobody has decided on.
-- $1 organizations (text[]), $2 dataset, $3 at (timestamptz now).
-- Returns organization_id, lag, outbox, failed, open, drift.
SELECT o.id AS organization_id,
       extract(epoch FROM $3::timestamptz - s.pulled_at)::float8 AS lag,
       (SELECT count(*)
          FROM pfa.change AS c
         WHERE c.organization_id = o.id AND c.state = ANY (vanguard.outbox())) AS outbox,
       (SELECT count(*)
          FROM pfa.change AS c
         WHERE c.organization_id = o.id AND c.state = ANY (vanguard.refused())) AS failed,
       coalesce(s.open_until > $3, FALSE) AS open,
       (SELECT count(*)
          FROM public.drift_report AS r
         WHERE r.organization_id = o.id AND r.dataset = $2 AND r.source = 'pull' AND r.severity = 'BREAKING'
           AND r.state = 'open') AS drift
  FROM unnest($1::text[]) AS o (id)
 CROSS JOIN LATERAL (
           SELECT s.pulled_at, s.open_until
             FROM public.synchronization AS s
            WHERE s.organization_id = o.id AND s.dataset = $2
            LIMIT 1
       ) AS s;
