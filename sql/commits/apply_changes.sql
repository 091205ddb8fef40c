-- Apply the changes of a commit to the mirror, write history, and finish them. The caller holds locks 1, 3 (exclusive)
-- and 4 on these rows. Whoever has modifications there is re-imaged afterwards, by statements of their own.
--
-- $1 organization, $2 commit_id (uuid), $3 revision (bigint: the dataset's new one), $4 id_field (text: name of the
-- field that holds the row's id, or null where new rows bring their key), $5 source (text: of the change),
-- $6 at (timestamptz now). Returns applied, the number of changes.
--
-- History keeps the images of what KPIs need: before from the row as it was, after from the row as it is written.
-- No version of a row comes twice: a row that was deleted goes on from the revision of that, and all go on from the
-- number of the incarnation.
-- Plan: the commit's changes by change_committed, each row of the mirror by its primary key. The results of steps are
-- not joined with each other: the planner knows nothing of their size.
WITH due AS MATERIALIZED (
    SELECT c.row_key, c.user_id, c.op, c.change_reason,
           CASE WHEN c.op = 'insert' AND $4::text IS NOT NULL THEN jsonb_build_object($4::text, c.row_key) || c.delta
                ELSE c.delta END AS delta
      FROM pfa.change AS c
     WHERE c.organization_id = $1
       AND c.commit_id = $2
       AND c.state = 'committed'
),
updated AS (
    UPDATE pfa.mirror AS m
       SET data = m.data || d.delta, version = greatest(m.version, (SELECT i.number FROM public.incarnation AS i)) + 1,
           revision = $3, updated_at = $6
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
    RETURNING m.row_key, d.op,
              vanguard.pick(w.data, (SELECT jsonb_agg(name) FROM jsonb_object_keys(d.delta) AS name)) AS before,
              d.delta AS after, d.user_id, d.change_reason
              /*{kpi_befores}*/, b_source, b_monthly_rental/*{}*/
              /*{kpi_after}*/, m.f_source AS a_source, m.f_monthly_rental AS a_monthly_rental/*{}*/
),
inserted AS (
    INSERT INTO pfa.mirror AS m (organization_id, row_key, data, version, revision, updated_at)
    SELECT $1, d.row_key, d.delta, 1 + greatest((SELECT i.number FROM public.incarnation AS i), w.revision), $3, $6
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
    RETURNING m.row_key, d.op, m.data, d.user_id, d.change_reason
              /*{kpi_before}*/, m.f_source AS b_source, m.f_monthly_rental AS b_monthly_rental/*{}*/
),
written AS (
    SELECT u.row_key, u.op, u.before, u.after, u.user_id, u.change_reason
           /*{kpi_befores}*/, b_source, b_monthly_rental/*{}*//*{kpi_afters}*/, a_source, a_monthly_rental/*{}*/
      FROM updated AS u
    UNION ALL
    SELECT i.row_key, 'insert', NULL, i.data, c.user_id, c.change_reason
           /*{kpi_no_before}*/, NULL::text COLLATE "C" AS b_source, NULL::numeric AS b_monthly_rental/*{}*/
           /*{kpi_afters}*/, a_source, a_monthly_rental/*{}*/
      FROM inserted AS i
     CROSS JOIN LATERAL (
               SELECT c.user_id, c.change_reason
                 FROM pfa.change AS c
                WHERE c.organization_id = $1 AND c.row_key = i.row_key AND c.commit_id = $2 AND c.state = 'committed'
                LIMIT 1
           ) AS c
    UNION ALL
    SELECT d.row_key, d.op, d.data, NULL, d.user_id, d.change_reason
           /*{kpi_befores}*/, b_source, b_monthly_rental/*{}*/
           /*{kpi_no_after}*/, NULL::text COLLATE "C" AS a_source, NULL::numeric AS a_monthly_rental/*{}*/
      FROM deleted AS d
),
recorded AS (
    INSERT INTO pfa.history (organization_id, revision, row_key, op, before, after, source, commit_id, actor,
                             change_reason, at
                             /*{kpi_befores}*/, b_source, b_monthly_rental/*{}*/
                             /*{kpi_afters}*/, a_source, a_monthly_rental/*{}*/)
    SELECT $1, $3, w.row_key, w.op, w.before, w.after, $5, $2, w.user_id, w.change_reason, $6
           /*{kpi_befores}*/, b_source, b_monthly_rental/*{}*//*{kpi_afters}*/, a_source, a_monthly_rental/*{}*/
      FROM written AS w
),
finished AS (
    UPDATE pfa.change AS c
       SET state = 'synced', settled_at = $6
     WHERE c.organization_id = $1
       AND c.commit_id = $2
       AND c.state = 'committed'
    RETURNING c.id
)
SELECT count(*) AS applied FROM finished;
