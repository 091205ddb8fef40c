-- A page of what a pull or ingestion could not take, by id.
-- $1 organization, $2 dataset, $3 after (text: only ids beyond this one, '' for the first page), $4 limit (bigint).
-- Returns one row: incarnation, total, body (bytea, JSON array), last_key (NULL on the last page).
-- No row: no such dataset.
WITH page AS MATERIALIZED (
    SELECT q.row_key, q.reasons, q.received, q.run_id, q.first_seen_at, q.last_seen_at, q.line,
           q.raw, q.discarded_at, q.discarded_by, q.discard_reason,
           row_number() OVER (ORDER BY q.row_key) AS place
      FROM public.quarantine AS q
     WHERE q.organization_id = $1
       AND q.dataset = $2
       AND q.row_key > $3
     ORDER BY q.row_key
     LIMIT $4::bigint + 1
),
rendered AS (
    SELECT p.place, p.row_key,
           json_build_object(
               'id', p.row_key,
               'reasons', (SELECT coalesce(json_agg(json_build_object(
                                      'code', reason -> 'code', 'message', reason -> 'message',
                                      'field', reason -> 'field') ORDER BY number), '[]')
                             FROM jsonb_array_elements(p.reasons) WITH ORDINALITY AS given (reason, number)),
               'received', p.received,
               'firstSeenAt', vanguard.utc(p.first_seen_at),
               'lastSeenAt', vanguard.utc(p.last_seen_at),
               'runId', p.run_id,
               'line', p.line,
               'raw', convert_from(p.raw, 'UTF8'),
               'discarded', CASE WHEN p.discarded_at IS NOT NULL
                                 THEN json_build_object('at', vanguard.utc(p.discarded_at), 'by', p.discarded_by,
                                                        'byName', vanguard.name_of($1, p.discarded_by),
                                                        'reason', p.discard_reason) END)::text AS row
      FROM page AS p
     WHERE p.place <= $4
)
SELECT (SELECT i.number FROM public.incarnation AS i) AS incarnation,
       (SELECT count(*) FROM public.quarantine AS q WHERE q.organization_id = $1 AND q.dataset = $2) AS total,
       convert_to('[' || coalesce((SELECT string_agg(r.row, ',' ORDER BY r.place)
                                     FROM rendered AS r), '') || ']', 'UTF8') AS body,
       CASE WHEN (SELECT count(*) FROM page) > $4 THEN (SELECT max(r.row_key) FROM rendered AS r) END AS last_key
  FROM pfa.dataset AS d
 WHERE d.organization_id = $1
   AND d.name = $2;
