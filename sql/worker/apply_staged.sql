-- Bring the staged rows into the mirror, and write history: what differs is updated, what is new inserted, what is gone
-- deleted. What is equal is not written. The caller holds locks 1, 3 (exclusive) and 4 on these rows, and re-images
-- whoever has modifications there.
--
-- $1 organization, $2 revision (bigint: the dataset's new one), $3 source (text: of the change), $4 at (timestamptz
-- now).
-- Returns row_key, op of each row that was written.
--
-- History keeps the images of what KPIs need, as in apply_changes.
-- No version of a row comes twice: a row that was deleted goes on from the revision of that, and all go on from the
-- number of the incarnation.
-- Plan: the staged rows, each by the mirror's primary key. The results of steps are not joined with each other: the
-- planner knows nothing of their size.
WITH due AS MATERIALIZED (
    SELECT s.row_key, s.data, s.actor, s.commit_id, s.change_reason, s.event_at, s.processed_at, s.event_key, n.names,
           CASE WHEN m.data IS NULL THEN 'insert' WHEN s.data IS NULL THEN 'delete' ELSE 'update' END AS op
      FROM staged AS s
      LEFT JOIN LATERAL (
               SELECT m.data FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = s.row_key LIMIT 1
           ) AS m ON TRUE
     CROSS JOIN LATERAL (
               SELECT jsonb_agg(k.name) AS names
                 FROM jsonb_object_keys(m.data || s.data) AS k (name)
                WHERE m.data -> k.name IS DISTINCT FROM s.data -> k.name
           ) AS n
     WHERE s.data IS DISTINCT FROM m.data
),
updated AS (
    UPDATE pfa.mirror AS m
       SET data = d.data, version = greatest(m.version, (SELECT i.number FROM public.incarnation AS i)) + 1,
           revision = $2, updated_at = $4, event_at = coalesce(d.event_at, m.event_at),
           processed_at = coalesce(d.processed_at, m.processed_at)
      FROM due AS d
     CROSS JOIN LATERAL (
               SELECT was.data/*{kpi_was}*/, was.f_source AS b_source, was.f_monthly_rental AS b_monthly_rental/*{}*/
                 FROM pfa.mirror AS was
                WHERE was.organization_id = $1 AND was.row_key = d.row_key
                LIMIT 1
           ) AS w
     WHERE m.organization_id = $1
       AND m.row_key = d.row_key
       AND d.op = 'update'
    RETURNING m.row_key, d.op, vanguard.pick(w.data, d.names) AS before, vanguard.pick(d.data, d.names) AS after,
              d.actor, d.commit_id, d.change_reason
              /*{kpi_befores}*/, b_source, b_monthly_rental/*{}*/
              /*{kpi_after}*/, m.f_source AS a_source, m.f_monthly_rental AS a_monthly_rental/*{}*/
),
inserted AS (
    INSERT INTO pfa.mirror AS m (organization_id, row_key, data, version, revision, updated_at, event_at,
                                 processed_at, event_key)
    SELECT $1, d.row_key, d.data, 1 + greatest((SELECT i.number FROM public.incarnation AS i), w.revision), $2, $4,
           d.event_at, d.processed_at, d.event_key
      FROM due AS d
      LEFT JOIN LATERAL (
               SELECT h.revision
                 FROM pfa.history AS h
                WHERE h.organization_id = $1 AND h.row_key = d.row_key AND h.op = 'delete'
                ORDER BY h.revision DESC
                LIMIT 1
           ) AS w ON TRUE
     WHERE d.op = 'insert'
    RETURNING m.row_key, m.data/*{kpi_after}*/, m.f_source AS a_source, m.f_monthly_rental AS a_monthly_rental/*{}*/
),
deleted AS (
    DELETE FROM pfa.mirror AS m
     USING due AS d
     WHERE m.organization_id = $1
       AND m.row_key = d.row_key
       AND d.op = 'delete'
    RETURNING m.row_key, d.op, m.data, d.actor, d.commit_id, d.change_reason
              /*{kpi_before}*/, m.f_source AS b_source, m.f_monthly_rental AS b_monthly_rental/*{}*/
),
written AS (
    SELECT u.row_key, u.op, u.before, u.after, u.actor, u.commit_id, u.change_reason
           /*{kpi_befores}*/, b_source, b_monthly_rental/*{}*//*{kpi_afters}*/, a_source, a_monthly_rental/*{}*/
      FROM updated AS u
    UNION ALL
    SELECT i.row_key, 'insert', NULL, i.data, s.actor, s.commit_id, s.change_reason
           /*{kpi_no_before}*/, NULL::text COLLATE "C" AS b_source, NULL::numeric AS b_monthly_rental/*{}*/
           /*{kpi_afters}*/, a_source, a_monthly_rental/*{}*/
      FROM inserted AS i
     CROSS JOIN LATERAL (
               SELECT s.actor, s.commit_id, s.change_reason FROM staged AS s WHERE s.row_key = i.row_key LIMIT 1
           ) AS s
    UNION ALL
    SELECT d.row_key, d.op, d.data, NULL, d.actor, d.commit_id, d.change_reason
           /*{kpi_befores}*/, b_source, b_monthly_rental/*{}*/
           /*{kpi_no_after}*/, NULL::text COLLATE "C" AS a_source, NULL::numeric AS a_monthly_rental/*{}*/
      FROM deleted AS d
),
recorded AS (
    INSERT INTO pfa.history (organization_id, revision, row_key, op, before, after, source, commit_id, actor,
                             change_reason, at
                             /*{kpi_befores}*/, b_source, b_monthly_rental/*{}*/
                             /*{kpi_afters}*/, a_source, a_monthly_rental/*{}*/)
    SELECT $1, $2, w.row_key, w.op, w.before, w.after, $3, w.commit_id, w.actor, w.change_reason, $4
           /*{kpi_befores}*/, b_source, b_monthly_rental/*{}*//*{kpi_afters}*/, a_source, a_monthly_rental/*{}*/
      FROM written AS w
)
SELECT w.row_key, w.op FROM written AS w;
