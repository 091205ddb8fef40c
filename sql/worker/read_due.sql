-- What there is to do for these organizations' dataset. A pull: one was asked for, was left unfinished, or is due. A
-- push: one was asked for, or the outbox holds a change that can go. While the circuit is open, only what somebody
-- asked for.
-- $1 organizations (text[]), $2 dataset, $3 at (timestamptz now). Returns organization_id, pull, push.
-- Plan: an entry of an index for each question, of change_outbox in order; changes that wait behind others of their row
-- are passed over, as in find_due.
SELECT o.id AS organization_id, w.asked_pull OR a.awake AND (s.next_pull_at <= $3 OR w.left_pull) AS pull,
       w.asked_push OR a.awake AND (w.left_push OR (
           SELECT c.id
             FROM (SELECT d.id, d.row_key, d.user_id
                     FROM pfa.change AS d
                    WHERE d.organization_id = o.id
                      AND d.state = ANY (vanguard.outbox())
                      AND CASE d.state WHEN 'syncing' THEN d.lease_until <= $3
                                       ELSE coalesce(d.next_attempt_at, '-infinity') <= $3 END
                    ORDER BY d.id
                   OFFSET 0) AS c
            WHERE NOT pfa.waits(o.id, c.row_key, c.user_id, c.id)
            ORDER BY c.id
            LIMIT 1) IS NOT NULL) AS push
  FROM unnest($1::text[]) AS o (id)
 CROSS JOIN LATERAL (
           SELECT s.next_pull_at, s.open_until
             FROM public.synchronization AS s
            WHERE s.organization_id = o.id AND s.dataset = $2
            LIMIT 1
       ) AS s
 CROSS JOIN LATERAL (SELECT coalesce(s.open_until, '-infinity') <= $3 AS awake) AS a
 CROSS JOIN LATERAL (
           SELECT coalesce(bool_or(r.kind = 'pull' AND r.state = 'requested'), FALSE) AS asked_pull,
                  coalesce(bool_or(r.kind = 'pull' AND r.state = 'running'), FALSE) AS left_pull,
                  coalesce(bool_or(r.kind = 'push' AND r.state = 'requested'), FALSE) AS asked_push,
                  coalesce(bool_or(r.kind = 'push' AND r.state = 'running'), FALSE) AS left_push
             FROM public.sync_run AS r
            WHERE r.organization_id = o.id
              AND r.dataset = $2
              AND r.state IN ('requested', 'running')
       ) AS w;
