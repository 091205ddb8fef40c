-- Begin a run: the one that a worker left unfinished, else the one that somebody asked for, else a new one of the
-- schedule; a check only where somebody asked. While the dataset is paused, or in a state that takes no pulls, nothing
-- is begun but checks: what was left unfinished is opened to be ended. The caller alone runs this kind here (an
-- advisory lock).
-- $1 organization, $2 dataset, $3 kind, $4 at (timestamptz now), $5 run_id (uuid: of a new one), $6 full (boolean:
-- whether a pull has to be whole), $7 since (timestamptz: from when on one that is not), $8 longest (interval: how long
-- it may take, or NULL).
-- Returns id, asked (somebody did), resumed, full, since, cursor, mark, start_revision, allow, tally (jsonb: of the
-- pull so far, or of the last one that counted, where that failed; NULL where neither is known), until (timestamptz:
-- its time is over then, or NULL), ends (it was stopped, the dataset is paused, or its time is over); no row where
-- nothing is to be begun.
WITH standing AS (
    SELECT d.revision, $3 <> 'check' AND (s.paused_at IS NOT NULL OR NOT t.filled) AS paused, s.marked, l.tally
      FROM public.dataset AS d
      JOIN public.dataset_state AS t ON t.state = d.state
      LEFT JOIN public.synchronization AS s ON s.organization_id = $1 AND s.dataset = $2
      LEFT JOIN LATERAL (
               SELECT r.state, jsonb_set(r.tally, '{quarantine}', '0') AS tally
                 FROM public.sync_run AS r
                WHERE r.organization_id = $1 AND r.dataset = $2 AND r.kind = $3 AND r.finished_at IS NOT NULL
                  AND r.tally IS NOT NULL
                ORDER BY r.requested_at DESC, r.id
                LIMIT 1
           ) AS l ON l.state = 'failed'
     WHERE d.organization_id = $1
       AND d.name = $2
),
found AS (
    SELECT r.id, r.started_at IS NOT NULL AS resumed, t.revision, t.paused, t.marked, t.tally
      FROM public.sync_run AS r
     CROSS JOIN standing AS t
     WHERE r.organization_id = $1
       AND r.dataset = $2
       AND r.kind = $3
       AND r.state IN ('requested', 'running')
       AND (r.state = 'running' OR NOT t.paused)
     ORDER BY r.started_at, r.requested_at, r.id
     LIMIT 1
),
opened AS (
    UPDATE public.sync_run AS r
       SET state = 'running', started_at = coalesce(r.started_at, $4), progressed_at = $4,
           -- r.whole and not what was found: somebody may have asked for everything meanwhile.
           whole = r.whole OR NOT f.resumed AND $6,
           since = CASE WHEN f.resumed THEN r.since WHEN NOT (r.whole OR $6) THEN $7::timestamptz END,
           start_revision = CASE WHEN f.resumed THEN r.start_revision ELSE f.revision END,
           tally = CASE WHEN f.resumed THEN r.tally ELSE f.tally END,
           witness = CASE WHEN f.resumed THEN r.witness WHEN NOT (r.whole OR $6) THEN f.marked END
      FROM found AS f
     WHERE r.organization_id = $1
       AND r.id = f.id
       -- Somebody may have stopped it meanwhile.
       AND r.state IN ('requested', 'running')
    RETURNING r.id, r.requested_by IS NOT NULL AS asked, f.resumed, r.whole, r.since, r.cursor, r.mark,
              r.start_revision, r.allow, r.tally, r.started_at + $8::interval AS until,
              f.paused OR r.stop_at IS NOT NULL AS ends
),
added AS (
    INSERT INTO public.sync_run AS r
           (organization_id, id, dataset, kind, whole, state, requested_at, started_at, progressed_at, since,
            start_revision, tally, witness)
    SELECT $1, $5, $2, $3, $6, 'running', $4, $4, $4, CASE WHEN NOT $6 THEN $7::timestamptz END, t.revision, t.tally,
           CASE WHEN NOT $6 THEN t.marked END
      FROM standing AS t
     WHERE NOT t.paused
       AND $3 <> 'check'
       AND NOT EXISTS (SELECT FROM found)
    RETURNING r.id, FALSE AS asked, FALSE AS resumed, r.whole, r.since, r.cursor, r.mark, r.start_revision, r.allow,
              r.tally, r.started_at + $8::interval AS until, FALSE AS ends
)
SELECT o.id, o.asked, o.resumed, o.whole AS "full", o.since, o.cursor, o.mark, o.start_revision, o.allow, o.tally,
       o.until, o.ends OR coalesce($4 >= o.until, FALSE) AS ends
  FROM opened AS o
UNION ALL
SELECT a.id, a.asked, a.resumed, a.whole, a.since, a.cursor, a.mark, a.start_revision, a.allow, a.tally, a.until,
       a.ends
  FROM added AS a;
