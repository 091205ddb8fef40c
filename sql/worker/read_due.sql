-- What there is to do for these organizations' dataset. A pull: one was asked for, was left unfinished, or is due. A
-- push: one was asked for, or the outbox holds a change that can go. A check: one was asked for. While the circuit is
-- open, only what somebody asked for; while the dataset is paused, or in a state that takes no pulls, only checks, and
-- what was left unfinished, to be ended; so is a run that was stopped.
-- $1 organizations (text[]), $2 dataset, $3 at (timestamptz now).
-- Returns organization_id, pull, push, check (as "check"), end_pull, end_push: whether the one under way has to end.
-- Plan: an entry of an index for each question, of change_outbox in order; changes that wait behind others of their row
-- are passed over, as in find_due.
SELECT o.id AS organization_id,
       w.left_pull AND (a.awake OR e.end_pull)
           OR NOT s.paused AND (w.asked_pull OR a.awake AND s.next_pull_at <= $3) AS pull,
       w.left_push AND (a.awake OR e.end_push) OR NOT s.paused AND (w.asked_push OR a.awake AND (
           SELECT c.id
             FROM (SELECT d.id, d.row_key,
                          CASE WHEN d.change_request_id IS NULL THEN d.user_id END AS author
                     FROM pfa.change AS d
                    WHERE d.organization_id = o.id
                      AND d.state = ANY (vanguard.outbox())
                      AND CASE d.state WHEN 'syncing' THEN d.lease_until <= $3
                                       ELSE coalesce(d.next_attempt_at, '-infinity') <= $3 END
                    ORDER BY d.id
                   OFFSET 0) AS c
            WHERE NOT pfa.waits(o.id, c.row_key, c.author, c.id)
            ORDER BY c.id
            LIMIT 1) IS NOT NULL) AS push,
       w.asked_check AS "check", e.end_pull, e.end_push
  FROM unnest($1::text[]) AS o (id)
 CROSS JOIN LATERAL (
           SELECT s.next_pull_at, s.open_until,
                  s.paused_at IS NOT NULL
                      OR NOT (SELECT t.filled
                                FROM public.dataset AS d
                                JOIN public.dataset_state AS t ON t.state = d.state
                               WHERE d.organization_id = o.id AND d.name = $2) AS paused
             FROM public.synchronization AS s
            WHERE s.organization_id = o.id AND s.dataset = $2
            LIMIT 1
       ) AS s
 CROSS JOIN LATERAL (SELECT coalesce(s.open_until, '-infinity') <= $3 AS awake) AS a
 CROSS JOIN LATERAL (
           SELECT coalesce(bool_or(r.kind = 'pull' AND r.state = 'requested'), FALSE) AS asked_pull,
                  coalesce(bool_or(r.kind = 'pull' AND r.state = 'running'), FALSE) AS left_pull,
                  coalesce(bool_or(r.kind = 'pull' AND r.stop_at IS NOT NULL), FALSE) AS stopped_pull,
                  coalesce(bool_or(r.kind = 'push' AND r.state = 'requested'), FALSE) AS asked_push,
                  coalesce(bool_or(r.kind = 'push' AND r.state = 'running'), FALSE) AS left_push,
                  coalesce(bool_or(r.kind = 'push' AND r.stop_at IS NOT NULL), FALSE) AS stopped_push,
                  coalesce(bool_or(r.kind = 'check'), FALSE) AS asked_check
             FROM public.sync_run AS r
            WHERE r.organization_id = o.id
              AND r.dataset = $2
              AND r.state IN ('requested', 'running')
       ) AS w
 CROSS JOIN LATERAL (
           SELECT w.left_pull AND (s.paused OR w.stopped_pull) AS end_pull,
                  w.left_push AND (s.paused OR w.stopped_push) AS end_push
       ) AS e;
