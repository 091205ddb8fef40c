-- Written by `python -m benchmarks.pgbench --write`: POST D/drafts.
CREATE FUNCTION pg_temp.drafts(size int) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_agg(jsonb_build_object(
               'id', 'PFA-' || lpad((i * 20)::text, 7, '0'), 'op', 'update', 'unset', '[]'::jsonb,
               'delta', jsonb_build_object('forecastStart', (date '2026-01-01' + i % 1000)::text)))
      FROM generate_series(1, size) AS i
$$;
PREPARE statement AS
-- Save a batch of drafts: merge each delta into what the caller drafted before, keep base as it was when a field was
-- first touched, and write the index image of the merged row. The caller holds locks 2, 3 and 4 on these rows.
--
-- $1 organization, $2 user, $3 version (bigint: the workspace's new revision), $4 drafts (jsonb, each id once:
-- [{id, op: update|insert|delete, delta, unset[], expectedVersion, changeReason}]), $5 groups (jsonb atomic groups, see
-- vanguard.touched), $6 at (timestamptz now), $7 session_id (text or NULL), $8 initial (jsonb: what a new row
-- starts with).
-- Returns id, problem (NULL where saved), modification_id, version, sync_state, empty (to be swept) for each draft.
--
-- Plan: one pass over the request, primary keys by nested loops (LATERAL ... LIMIT 1: the planner knows nothing of the
-- request's size), no join between the results of steps.
WITH request AS (
    SELECT r.id, r.op, coalesce(r.delta, '{}') AS delta, coalesce(r.unset, '{}') AS unset,
           r."expectedVersion" AS expected_version, r."changeReason" AS change_reason
      FROM jsonb_to_recordset($4::jsonb)
        AS r (id text, op text, delta jsonb, unset text[], "expectedVersion" bigint, "changeReason" text)
),
present AS (
    -- What there is of each row: the mirror's, the caller's own layer, and theirs.
    SELECT r.id, r.op, r.delta AS wanted_delta, r.unset, r.expected_version, r.change_reason,
           m.data, m.version AS mirror_version,
           x.id AS modification_id, x.pending_op, coalesce(x.pending, '{}') AS pending, x.pending_state,
           x.draft_op, coalesce(x.delta, '{}') AS delta, coalesce(x.base, '{}') AS base, x.conflicts,
           coalesce(x.version, 0) AS version,
           t.theirs,
           m.b_search, m.b_area_silo, m.b_category, m.b_class, m.b_source, m.b_dor, m.b_monthly_rate, m.b_manufacturer, m.b_model, m.b_original_start, m.b_original_end, m.b_forecast_start, m.b_forecast_end, m.b_actual_start, m.b_actual_end, m.b_is_actualized, m.b_is_discontinued, m.b_is_funds_transferable, m.b_has_actuals, m.b_plan_cost, m.b_forecast_cost, m.b_actual_cost, m.b_monthly_rental, m.b_purchase_cost, m.b_incomplete
      FROM request AS r
      LEFT JOIN LATERAL (
               SELECT m.data, m.version,
                      m.search AS b_search, m.f_area_silo AS b_area_silo, m.f_category AS b_category, m.f_class AS b_class, m.f_source AS b_source, m.f_dor AS b_dor, m.f_monthly_rate AS b_monthly_rate, m.f_manufacturer AS b_manufacturer, m.f_model AS b_model, m.f_original_start AS b_original_start, m.f_original_end AS b_original_end, m.f_forecast_start AS b_forecast_start, m.f_forecast_end AS b_forecast_end, m.f_actual_start AS b_actual_start, m.f_actual_end AS b_actual_end, m.f_is_actualized AS b_is_actualized, m.f_is_discontinued AS b_is_discontinued, m.f_is_funds_transferable AS b_is_funds_transferable, m.f_has_actuals AS b_has_actuals, m.f_plan_cost AS b_plan_cost, m.f_forecast_cost AS b_forecast_cost, m.f_actual_cost AS b_actual_cost, m.f_monthly_rental AS b_monthly_rental, m.f_purchase_cost AS b_purchase_cost, m.f_incomplete AS b_incomplete
                 FROM pfa.mirror AS m
                WHERE m.organization_id = $1 AND m.row_key = r.id
           ) AS m ON TRUE
      LEFT JOIN LATERAL (
               SELECT x.id, x.pending_op, x.pending, x.pending_state, x.draft_op, x.delta, x.base, x.conflicts,
                      x.version
                 FROM pfa.modification AS x
                WHERE x.organization_id = $1 AND x.user_id = $2 AND x.row_key = r.id
           ) AS x ON TRUE
     CROSS JOIN LATERAL (
               SELECT CASE WHEN pfa.in_flight($1, r.id) THEN pfa.theirs($1, $2, r.id, m.data) ELSE m.data END AS theirs
               OFFSET 0
           ) AS t
),
wanted AS (
    -- What the draft becomes, or why it cannot. A row that was deleted under a draft can only be inserted again.
    SELECT p.*,
           CASE
               WHEN p.expected_version IS NOT NULL AND p.expected_version <> p.version THEN 'VERSION_CONFLICT'
               WHEN p.op = 'insert' AND p.draft_op IS DISTINCT FROM 'insert' AND p.theirs IS NOT NULL THEN 'ROW_EXISTS'
               WHEN p.op = 'insert' AND p.pending_op = 'delete' THEN 'ROW_DELETED'
               -- Somebody's deletion is on its way: until it arrives, what is beneath would show through the new row.
               WHEN p.op = 'insert' AND coalesce(p.draft_op, 'delete') = 'delete' AND p.theirs IS NULL
                    AND p.data IS NOT NULL
                   THEN 'ROW_DELETED'
               WHEN p.op <> 'insert' AND p.draft_op IS DISTINCT FROM 'insert' AND p.theirs IS NULL
                   THEN CASE WHEN p.modification_id IS NULL THEN 'ROW_NOT_FOUND' ELSE 'ROW_DELETED' END
           END AS problem,
           CASE
               WHEN p.op = 'delete' THEN '{}'
               WHEN p.op = 'insert' AND coalesce(p.draft_op, 'delete') = 'delete'
                   THEN $8::jsonb || p.wanted_delta - p.unset
               WHEN p.op = 'insert' AND p.draft_op = 'update'
                   THEN (pfa.beneath($1, p.id, p.data, p.pending) || p.base || p.delta || p.wanted_delta) - p.unset
               ELSE (p.delta || p.wanted_delta) - p.unset
           END AS new_delta,
           CASE
               WHEN p.op = 'delete' AND p.draft_op = 'insert' THEN NULL
               WHEN p.op = 'delete' THEN 'delete'
               WHEN p.op = 'insert' OR p.draft_op = 'insert' THEN 'insert'
               WHEN (p.delta || p.wanted_delta) - p.unset <> '{}' THEN 'update'
           END AS new_op
      FROM present AS p
),
based AS (
    -- base of a field: theirs when it was first touched, or now where the user has seen a conflict in it and writes
    -- again.
    SELECT w.*,
           CASE
               WHEN w.new_op = 'delete'
                   THEN CASE WHEN w.draft_op = 'delete' AND w.conflicts IS NULL THEN w.base ELSE w.theirs END
               WHEN w.new_op IS NULL OR w.new_op = 'insert' AND w.draft_op IS DISTINCT FROM 'insert' THEN '{}'
               ELSE (SELECT coalesce(jsonb_object_agg(field, CASE
                                WHEN w.touched_before ? field AND NOT w.written_again ? field
                                    THEN coalesce(w.base -> field, 'null')
                                ELSE coalesce(w.theirs -> field, 'null')
                            END), '{}')
                       -- As in vanguard.touched; here it is much cheaper than a call for each row.
                       FROM jsonb_object_keys(w.new_delta) AS name
                      CROSS JOIN LATERAL jsonb_array_elements_text(
                                     coalesce($5::jsonb -> name -> 'fields', jsonb_build_array(name))) AS field)
           END AS new_base
      FROM (
          SELECT w.*,
                 -- A field that was not there when it was touched has no entry in base, and stands for null.
                 CASE WHEN w.draft_op = 'delete' THEN vanguard.touched(w.new_delta, $5)
                      WHEN w.draft_op IS NULL THEN '[]'
                      ELSE vanguard.touched(w.delta, $5) END AS touched_before,
                 CASE WHEN w.conflicts IS NULL THEN '[]'
                      ELSE vanguard.written_again(w.conflicts, w.wanted_delta, $5) END AS written_again
            FROM wanted AS w
           WHERE w.problem IS NULL
      ) AS w
),
merged AS (
    -- The merged row, and the layer that makes it of the mirror's; OFFSET 0 keeps the merge from being repeated for
    -- every column of its image.
    SELECT b.*, d.doc, l.layer,
           CASE
               WHEN b.conflicts IS NULL OR b.new_op IS DISTINCT FROM 'update' AND b.new_op IS DISTINCT FROM 'insert'
                   THEN NULL
               ELSE nullif(vanguard.conflicts(b.id, b.new_base, b.theirs, b.new_delta, $5), '[]')
           END AS new_conflicts
      FROM based AS b
     CROSS JOIN LATERAL (
               SELECT CASE
                          WHEN b.new_op = 'delete' OR b.pending_op = 'delete' THEN NULL
                          WHEN b.data IS NULL AND 'insert' NOT IN (coalesce(b.pending_op, ''), coalesce(b.new_op, ''))
                              THEN NULL
                          ELSE coalesce(b.data, '{}') || b.pending || b.new_delta
                      END AS doc
               OFFSET 0
           ) AS d
     CROSS JOIN LATERAL (
               SELECT CASE WHEN b.data IS NOT NULL AND d.doc IS NOT NULL THEN b.pending || b.new_delta END AS layer
               OFFSET 0
           ) AS l
),
image AS (
    SELECT merged.*,
           CASE WHEN NOT layer ?| ARRAY['pfaId', 'organization', 'areaSilo', 'category', 'forecastCategory', 'class', 'manufacturer', 'model', 'contract', 'equipment', 'pemsVersion'] THEN b_search ELSE vanguard.fold(coalesce(doc ->> 'pfaId', '') || E'\x1f' || coalesce(doc ->> 'organization', '') || E'\x1f' || coalesce(doc ->> 'areaSilo', '') || E'\x1f' || coalesce(doc ->> 'category', '') || E'\x1f' || coalesce(doc ->> 'forecastCategory', '') || E'\x1f' || coalesce(doc ->> 'class', '') || E'\x1f' || coalesce(doc ->> 'manufacturer', '') || E'\x1f' || coalesce(doc ->> 'model', '') || E'\x1f' || coalesce(doc ->> 'contract', '') || E'\x1f' || coalesce(doc ->> 'equipment', '') || E'\x1f' || coalesce(doc ->> 'pemsVersion', '')) END AS a_search, CASE WHEN NOT layer ? 'areaSilo' THEN b_area_silo ELSE vanguard.as_text(doc -> 'areaSilo') END AS a_area_silo, CASE WHEN NOT layer ? 'category' THEN b_category ELSE vanguard.as_text(doc -> 'category') END AS a_category, CASE WHEN NOT layer ? 'class' THEN b_class ELSE vanguard.as_text(doc -> 'class') END AS a_class, CASE WHEN NOT layer ? 'source' THEN b_source ELSE vanguard.as_text(doc -> 'source') END AS a_source, CASE WHEN NOT layer ? 'dor' THEN b_dor ELSE vanguard.as_text(doc -> 'dor') END AS a_dor, CASE WHEN NOT layer ? 'monthlyRate' THEN b_monthly_rate ELSE vanguard.as_number(doc -> 'monthlyRate') END AS a_monthly_rate, CASE WHEN NOT layer ? 'manufacturer' THEN b_manufacturer ELSE vanguard.as_text(doc -> 'manufacturer') END AS a_manufacturer, CASE WHEN NOT layer ? 'model' THEN b_model ELSE vanguard.as_text(doc -> 'model') END AS a_model, CASE WHEN NOT layer ? 'originalStart' THEN b_original_start ELSE vanguard.as_date(doc -> 'originalStart') END AS a_original_start, CASE WHEN NOT layer ? 'originalEnd' THEN b_original_end ELSE vanguard.as_date(doc -> 'originalEnd') END AS a_original_end, CASE WHEN NOT layer ? 'forecastStart' THEN b_forecast_start ELSE vanguard.as_date(doc -> 'forecastStart') END AS a_forecast_start, CASE WHEN NOT layer ? 'forecastEnd' THEN b_forecast_end ELSE vanguard.as_date(doc -> 'forecastEnd') END AS a_forecast_end, CASE WHEN NOT layer ? 'actualStart' THEN b_actual_start ELSE vanguard.as_date(doc -> 'actualStart') END AS a_actual_start, CASE WHEN NOT layer ? 'actualEnd' THEN b_actual_end ELSE vanguard.as_date(doc -> 'actualEnd') END AS a_actual_end, CASE WHEN NOT layer ? 'isActualized' THEN b_is_actualized ELSE vanguard.as_boolean(doc -> 'isActualized') END AS a_is_actualized, CASE WHEN NOT layer ? 'isDiscontinued' THEN b_is_discontinued ELSE vanguard.as_boolean(doc -> 'isDiscontinued') END AS a_is_discontinued, CASE WHEN NOT layer ? 'isFundsTransferable' THEN b_is_funds_transferable ELSE vanguard.as_boolean(doc -> 'isFundsTransferable') END AS a_is_funds_transferable, CASE WHEN NOT layer ? 'hasActuals' THEN b_has_actuals ELSE vanguard.as_boolean(doc -> 'hasActuals') END AS a_has_actuals
      FROM merged
    OFFSET 0
),
completed AS (
    SELECT image.*
           , CASE WHEN NOT layer ?| ARRAY['source', 'monthlyRate', 'purchasePrice', 'originalStart', 'originalEnd'] THEN b_plan_cost ELSE pfa.cost(a_source, a_monthly_rate, vanguard.as_number(doc -> 'purchasePrice'), a_original_start, a_original_end) END AS a_plan_cost, CASE WHEN NOT layer ?| ARRAY['source', 'monthlyRate', 'purchasePrice', 'forecastStart', 'forecastEnd'] THEN b_forecast_cost ELSE pfa.cost(a_source, a_monthly_rate, vanguard.as_number(doc -> 'purchasePrice'), a_forecast_start, a_forecast_end) END AS a_forecast_cost, CASE WHEN NOT layer ?| ARRAY['source', 'monthlyRate', 'purchasePrice', 'actualStart', 'actualEnd'] THEN b_actual_cost ELSE pfa.actual_cost(a_source, a_monthly_rate, vanguard.as_number(doc -> 'purchasePrice'), a_actual_start, a_actual_end) END AS a_actual_cost, CASE WHEN NOT layer ?| ARRAY['source', 'monthlyRate'] THEN b_monthly_rental ELSE pfa.monthly_rental(a_source, a_monthly_rate) END AS a_monthly_rental, CASE WHEN NOT layer ?| ARRAY['source', 'purchasePrice'] THEN b_purchase_cost ELSE pfa.purchase_cost(a_source, vanguard.as_number(doc -> 'purchasePrice')) END AS a_purchase_cost, CASE WHEN NOT layer ?| ARRAY['source', 'monthlyRate', 'purchasePrice', 'originalStart', 'originalEnd', 'forecastStart', 'forecastEnd'] THEN b_incomplete ELSE pfa.incomplete(a_source, a_monthly_rate, vanguard.as_number(doc -> 'purchasePrice'), a_original_start, a_original_end, a_forecast_start, a_forecast_end) END AS a_incomplete
      FROM image
    OFFSET 0
),
imaged AS (
    SELECT completed.*,
           (b_area_silo, b_category, b_class, b_source, b_dor, b_monthly_rate, b_manufacturer, b_model, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_has_actuals, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete) IS DISTINCT FROM (a_area_silo, a_category, a_class, a_source, a_dor, a_monthly_rate, a_manufacturer, a_model, a_original_start, a_original_end, a_forecast_start, a_forecast_end, a_actual_start, a_actual_end, a_is_actualized, a_is_discontinued, a_is_funds_transferable, a_has_actuals, a_plan_cost, a_forecast_cost, a_actual_cost, a_monthly_rental, a_purchase_cost, a_incomplete) AS differs
      FROM completed
),
saved AS (
    INSERT INTO pfa.modification AS x (
        organization_id, user_id, row_key, pending_op, pending, pending_state, draft_op, delta, base, conflicts,
        mirror_version, version, leaves, lands, reworded, session_id, change_reason, modified_at,
        b_area_silo, b_category, b_class, b_source, b_dor, b_monthly_rate, b_manufacturer, b_model, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_has_actuals, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete, a_search, a_area_silo, a_category, a_class, a_source, a_dor, a_monthly_rate, a_manufacturer, a_model, a_original_start, a_original_end, a_forecast_start, a_forecast_end, a_actual_start, a_actual_end, a_is_actualized, a_is_discontinued, a_is_funds_transferable, a_has_actuals, a_plan_cost, a_forecast_cost, a_actual_cost, a_monthly_rental, a_purchase_cost, a_incomplete
    )
    SELECT $1, $2, imaged.id, imaged.pending_op, imaged.pending, imaged.pending_state, imaged.new_op, imaged.new_delta,
           imaged.new_base, imaged.new_conflicts, imaged.mirror_version, $3,
           imaged.data IS NOT NULL AND (imaged.doc IS NULL OR imaged.differs),
           imaged.doc IS NOT NULL AND (imaged.data IS NULL OR imaged.differs),
           imaged.data IS NOT NULL AND imaged.doc IS NOT NULL AND NOT imaged.differs
           AND imaged.b_search <> imaged.a_search,
           $7, imaged.change_reason, $6,
           b_area_silo, b_category, b_class, b_source, b_dor, b_monthly_rate, b_manufacturer, b_model, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_has_actuals, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete, a_search, a_area_silo, a_category, a_class, a_source, a_dor, a_monthly_rate, a_manufacturer, a_model, a_original_start, a_original_end, a_forecast_start, a_forecast_end, a_actual_start, a_actual_end, a_is_actualized, a_is_discontinued, a_is_funds_transferable, a_has_actuals, a_plan_cost, a_forecast_cost, a_actual_cost, a_monthly_rental, a_purchase_cost, a_incomplete
      FROM imaged
        ON CONFLICT (organization_id, user_id, row_key) DO UPDATE SET
           draft_op = excluded.draft_op, delta = excluded.delta, base = excluded.base, conflicts = excluded.conflicts,
           mirror_version = excluded.mirror_version, version = excluded.version, leaves = excluded.leaves,
           lands = excluded.lands, reworded = excluded.reworded,
           session_id = coalesce(excluded.session_id, x.session_id),
           change_reason = coalesce(excluded.change_reason, x.change_reason), modified_at = excluded.modified_at,
           b_area_silo = excluded.b_area_silo, b_category = excluded.b_category, b_class = excluded.b_class, b_source = excluded.b_source, b_dor = excluded.b_dor, b_monthly_rate = excluded.b_monthly_rate, b_manufacturer = excluded.b_manufacturer, b_model = excluded.b_model, b_original_start = excluded.b_original_start, b_original_end = excluded.b_original_end, b_forecast_start = excluded.b_forecast_start, b_forecast_end = excluded.b_forecast_end, b_actual_start = excluded.b_actual_start, b_actual_end = excluded.b_actual_end, b_is_actualized = excluded.b_is_actualized, b_is_discontinued = excluded.b_is_discontinued, b_is_funds_transferable = excluded.b_is_funds_transferable, b_has_actuals = excluded.b_has_actuals, b_plan_cost = excluded.b_plan_cost, b_forecast_cost = excluded.b_forecast_cost, b_actual_cost = excluded.b_actual_cost, b_monthly_rental = excluded.b_monthly_rental, b_purchase_cost = excluded.b_purchase_cost, b_incomplete = excluded.b_incomplete, a_search = excluded.a_search, a_area_silo = excluded.a_area_silo, a_category = excluded.a_category, a_class = excluded.a_class, a_source = excluded.a_source, a_dor = excluded.a_dor, a_monthly_rate = excluded.a_monthly_rate, a_manufacturer = excluded.a_manufacturer, a_model = excluded.a_model, a_original_start = excluded.a_original_start, a_original_end = excluded.a_original_end, a_forecast_start = excluded.a_forecast_start, a_forecast_end = excluded.a_forecast_end, a_actual_start = excluded.a_actual_start, a_actual_end = excluded.a_actual_end, a_is_actualized = excluded.a_is_actualized, a_is_discontinued = excluded.a_is_discontinued, a_is_funds_transferable = excluded.a_is_funds_transferable, a_has_actuals = excluded.a_has_actuals, a_plan_cost = excluded.a_plan_cost, a_forecast_cost = excluded.a_forecast_cost, a_actual_cost = excluded.a_actual_cost, a_monthly_rental = excluded.a_monthly_rental, a_purchase_cost = excluded.a_purchase_cost, a_incomplete = excluded.a_incomplete
    RETURNING x.row_key, x.id, x.version, x.sync_state, x.draft_op IS NULL AND x.pending_op IS NULL AS empty
)
SELECT s.row_key AS id, NULL AS problem, s.id AS modification_id, s.version,
       CASE WHEN s.empty THEN 'pristine' ELSE s.sync_state END AS sync_state, s.empty
  FROM saved AS s
UNION ALL
SELECT w.id, w.problem, NULL, w.version, NULL, FALSE
  FROM wanted AS w
 WHERE w.problem IS NOT NULL;
BEGIN; EXECUTE statement ('acme', 'writer', 1, pg_temp.drafts(1), '{"forecastStart":{"cell":"forecastDates","fields":["forecastStart","forecastEnd"]},"forecastEnd":{"cell":"forecastDates","fields":["forecastStart","forecastEnd"]},"source":{"cell":"sourcing","fields":["source","monthlyRate","purchasePrice"]},"monthlyRate":{"cell":"sourcing","fields":["source","monthlyRate","purchasePrice"]},"purchasePrice":{"cell":"sourcing","fields":["source","monthlyRate","purchasePrice"]}}', '2026-03-01 00:00:00+00', NULL, '{"hasPlan":false,"hasActuals":false}'); ROLLBACK; -- 1 draft
BEGIN; EXECUTE statement ('acme', 'mover', 1, pg_temp.drafts(1), '{"forecastStart":{"cell":"forecastDates","fields":["forecastStart","forecastEnd"]},"forecastEnd":{"cell":"forecastDates","fields":["forecastStart","forecastEnd"]},"source":{"cell":"sourcing","fields":["source","monthlyRate","purchasePrice"]},"monthlyRate":{"cell":"sourcing","fields":["source","monthlyRate","purchasePrice"]},"purchasePrice":{"cell":"sourcing","fields":["source","monthlyRate","purchasePrice"]}}', '2026-03-01 00:00:00+00', NULL, '{"hasPlan":false,"hasActuals":false}'); ROLLBACK; -- 1 draft, beside 50,000 that one has
BEGIN; EXECUTE statement ('acme', 'writer', 1, pg_temp.drafts(100), '{"forecastStart":{"cell":"forecastDates","fields":["forecastStart","forecastEnd"]},"forecastEnd":{"cell":"forecastDates","fields":["forecastStart","forecastEnd"]},"source":{"cell":"sourcing","fields":["source","monthlyRate","purchasePrice"]},"monthlyRate":{"cell":"sourcing","fields":["source","monthlyRate","purchasePrice"]},"purchasePrice":{"cell":"sourcing","fields":["source","monthlyRate","purchasePrice"]}}', '2026-03-01 00:00:00+00', NULL, '{"hasPlan":false,"hasActuals":false}'); ROLLBACK; -- 100 drafts
BEGIN; EXECUTE statement ('acme', 'writer', 1, pg_temp.drafts(1000), '{"forecastStart":{"cell":"forecastDates","fields":["forecastStart","forecastEnd"]},"forecastEnd":{"cell":"forecastDates","fields":["forecastStart","forecastEnd"]},"source":{"cell":"sourcing","fields":["source","monthlyRate","purchasePrice"]},"monthlyRate":{"cell":"sourcing","fields":["source","monthlyRate","purchasePrice"]},"purchasePrice":{"cell":"sourcing","fields":["source","monthlyRate","purchasePrice"]}}', '2026-03-01 00:00:00+00', NULL, '{"hasPlan":false,"hasActuals":false}'); ROLLBACK; -- 1,000 drafts
