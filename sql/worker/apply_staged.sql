-- Bring the staged rows into the mirror, and write history: what differs is updated, what is new inserted, what is gone
-- deleted. What is equal is not written. The caller holds locks 1, 3 (exclusive) and 4 on these rows, and re-images
-- whoever has modifications there.
--
-- $1 organization, $2 revision (bigint: the dataset's new one), $3 source (text: of the change), $4 at (timestamptz
-- now).
-- Returns row_key, op of each row that was written.
--
-- History keeps the images of what KPIs need, as in apply_changes.
-- Plan: the staged rows, each by the mirror's primary key. The results of steps are not joined with each other: the
-- planner knows nothing of their size.
WITH due AS MATERIALIZED (
    SELECT s.row_key, s.data, s.actor, s.commit_id, s.change_reason, n.names,
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
       SET data = d.data, version = m.version + 1, revision = $2, updated_at = $4
      FROM due AS d
     CROSS JOIN LATERAL (
               SELECT was.data/*{kpi_was}*/, was.f_area_silo AS b_area_silo, was.f_category AS b_category, was.f_class AS b_class, was.f_source AS b_source, was.f_dor AS b_dor, was.f_original_start AS b_original_start, was.f_original_end AS b_original_end, was.f_forecast_start AS b_forecast_start, was.f_forecast_end AS b_forecast_end, was.f_actual_start AS b_actual_start, was.f_actual_end AS b_actual_end, was.f_is_actualized AS b_is_actualized, was.f_is_discontinued AS b_is_discontinued, was.f_is_funds_transferable AS b_is_funds_transferable, was.f_plan_cost AS b_plan_cost, was.f_forecast_cost AS b_forecast_cost, was.f_actual_cost AS b_actual_cost, was.f_monthly_rental AS b_monthly_rental, was.f_purchase_cost AS b_purchase_cost, was.f_incomplete AS b_incomplete/*{}*/
                 FROM pfa.mirror AS was
                WHERE was.organization_id = $1 AND was.row_key = d.row_key
                LIMIT 1
           ) AS w
     WHERE m.organization_id = $1
       AND m.row_key = d.row_key
       AND d.op = 'update'
    RETURNING m.row_key, d.op, vanguard.pick(w.data, d.names) AS before, vanguard.pick(d.data, d.names) AS after,
              d.actor, d.commit_id, d.change_reason/*{kpi_befores}*/, b_area_silo, b_category, b_class, b_source, b_dor, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete/*{}*//*{kpi_after}*/, m.f_area_silo AS a_area_silo, m.f_category AS a_category, m.f_class AS a_class, m.f_source AS a_source, m.f_dor AS a_dor, m.f_original_start AS a_original_start, m.f_original_end AS a_original_end, m.f_forecast_start AS a_forecast_start, m.f_forecast_end AS a_forecast_end, m.f_actual_start AS a_actual_start, m.f_actual_end AS a_actual_end, m.f_is_actualized AS a_is_actualized, m.f_is_discontinued AS a_is_discontinued, m.f_is_funds_transferable AS a_is_funds_transferable, m.f_plan_cost AS a_plan_cost, m.f_forecast_cost AS a_forecast_cost, m.f_actual_cost AS a_actual_cost, m.f_monthly_rental AS a_monthly_rental, m.f_purchase_cost AS a_purchase_cost, m.f_incomplete AS a_incomplete/*{}*/
),
inserted AS (
    INSERT INTO pfa.mirror AS m (organization_id, row_key, data, version, revision, updated_at)
    SELECT $1, d.row_key, d.data, 1, $2, $4
      FROM due AS d
     WHERE d.op = 'insert'
    RETURNING m.row_key, m.data/*{kpi_after}*/, m.f_area_silo AS a_area_silo, m.f_category AS a_category, m.f_class AS a_class, m.f_source AS a_source, m.f_dor AS a_dor, m.f_original_start AS a_original_start, m.f_original_end AS a_original_end, m.f_forecast_start AS a_forecast_start, m.f_forecast_end AS a_forecast_end, m.f_actual_start AS a_actual_start, m.f_actual_end AS a_actual_end, m.f_is_actualized AS a_is_actualized, m.f_is_discontinued AS a_is_discontinued, m.f_is_funds_transferable AS a_is_funds_transferable, m.f_plan_cost AS a_plan_cost, m.f_forecast_cost AS a_forecast_cost, m.f_actual_cost AS a_actual_cost, m.f_monthly_rental AS a_monthly_rental, m.f_purchase_cost AS a_purchase_cost, m.f_incomplete AS a_incomplete/*{}*/
),
deleted AS (
    DELETE FROM pfa.mirror AS m
     USING due AS d
     WHERE m.organization_id = $1
       AND m.row_key = d.row_key
       AND d.op = 'delete'
    RETURNING m.row_key, d.op, m.data, d.actor, d.commit_id, d.change_reason/*{kpi_before}*/, m.f_area_silo AS b_area_silo, m.f_category AS b_category, m.f_class AS b_class, m.f_source AS b_source, m.f_dor AS b_dor, m.f_original_start AS b_original_start, m.f_original_end AS b_original_end, m.f_forecast_start AS b_forecast_start, m.f_forecast_end AS b_forecast_end, m.f_actual_start AS b_actual_start, m.f_actual_end AS b_actual_end, m.f_is_actualized AS b_is_actualized, m.f_is_discontinued AS b_is_discontinued, m.f_is_funds_transferable AS b_is_funds_transferable, m.f_plan_cost AS b_plan_cost, m.f_forecast_cost AS b_forecast_cost, m.f_actual_cost AS b_actual_cost, m.f_monthly_rental AS b_monthly_rental, m.f_purchase_cost AS b_purchase_cost, m.f_incomplete AS b_incomplete/*{}*/
),
written AS (
    SELECT u.row_key, u.op, u.before, u.after, u.actor, u.commit_id, u.change_reason/*{kpi_befores}*/, b_area_silo, b_category, b_class, b_source, b_dor, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete/*{}*//*{kpi_afters}*/, a_area_silo, a_category, a_class, a_source, a_dor, a_original_start, a_original_end, a_forecast_start, a_forecast_end, a_actual_start, a_actual_end, a_is_actualized, a_is_discontinued, a_is_funds_transferable, a_plan_cost, a_forecast_cost, a_actual_cost, a_monthly_rental, a_purchase_cost, a_incomplete/*{}*/
      FROM updated AS u
    UNION ALL
    SELECT i.row_key, 'insert', NULL, i.data, s.actor, s.commit_id, s.change_reason/*{kpi_no_before}*/, NULL::text COLLATE "C" AS b_area_silo, NULL::text COLLATE "C" AS b_category, NULL::text COLLATE "C" AS b_class, NULL::text COLLATE "C" AS b_source, NULL::text COLLATE "C" AS b_dor, NULL::date AS b_original_start, NULL::date AS b_original_end, NULL::date AS b_forecast_start, NULL::date AS b_forecast_end, NULL::date AS b_actual_start, NULL::date AS b_actual_end, NULL::boolean AS b_is_actualized, NULL::boolean AS b_is_discontinued, NULL::boolean AS b_is_funds_transferable, NULL::numeric AS b_plan_cost, NULL::numeric AS b_forecast_cost, NULL::numeric AS b_actual_cost, NULL::numeric AS b_monthly_rental, NULL::numeric AS b_purchase_cost, NULL::boolean AS b_incomplete/*{}*//*{kpi_afters}*/, a_area_silo, a_category, a_class, a_source, a_dor, a_original_start, a_original_end, a_forecast_start, a_forecast_end, a_actual_start, a_actual_end, a_is_actualized, a_is_discontinued, a_is_funds_transferable, a_plan_cost, a_forecast_cost, a_actual_cost, a_monthly_rental, a_purchase_cost, a_incomplete/*{}*/
      FROM inserted AS i
     CROSS JOIN LATERAL (
               SELECT s.actor, s.commit_id, s.change_reason FROM staged AS s WHERE s.row_key = i.row_key LIMIT 1
           ) AS s
    UNION ALL
    SELECT d.row_key, d.op, d.data, NULL, d.actor, d.commit_id, d.change_reason/*{kpi_befores}*/, b_area_silo, b_category, b_class, b_source, b_dor, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete/*{}*//*{kpi_no_after}*/, NULL::text COLLATE "C" AS a_area_silo, NULL::text COLLATE "C" AS a_category, NULL::text COLLATE "C" AS a_class, NULL::text COLLATE "C" AS a_source, NULL::text COLLATE "C" AS a_dor, NULL::date AS a_original_start, NULL::date AS a_original_end, NULL::date AS a_forecast_start, NULL::date AS a_forecast_end, NULL::date AS a_actual_start, NULL::date AS a_actual_end, NULL::boolean AS a_is_actualized, NULL::boolean AS a_is_discontinued, NULL::boolean AS a_is_funds_transferable, NULL::numeric AS a_plan_cost, NULL::numeric AS a_forecast_cost, NULL::numeric AS a_actual_cost, NULL::numeric AS a_monthly_rental, NULL::numeric AS a_purchase_cost, NULL::boolean AS a_incomplete/*{}*/
      FROM deleted AS d
),
recorded AS (
    INSERT INTO pfa.history (organization_id, revision, row_key, op, before, after, source, commit_id, actor, change_reason, at
                             /*{kpi_befores}*/, b_area_silo, b_category, b_class, b_source, b_dor, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete/*{}*//*{kpi_afters}*/, a_area_silo, a_category, a_class, a_source, a_dor, a_original_start, a_original_end, a_forecast_start, a_forecast_end, a_actual_start, a_actual_end, a_is_actualized, a_is_discontinued, a_is_funds_transferable, a_plan_cost, a_forecast_cost, a_actual_cost, a_monthly_rental, a_purchase_cost, a_incomplete/*{}*/)
    SELECT $1, $2, w.row_key, w.op, w.before, w.after, $3, w.commit_id, w.actor, w.change_reason, $4
           /*{kpi_befores}*/, b_area_silo, b_category, b_class, b_source, b_dor, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete/*{}*//*{kpi_afters}*/, a_area_silo, a_category, a_class, a_source, a_dor, a_original_start, a_original_end, a_forecast_start, a_forecast_end, a_actual_start, a_actual_end, a_is_actualized, a_is_discontinued, a_is_funds_transferable, a_plan_cost, a_forecast_cost, a_actual_cost, a_monthly_rental, a_purchase_cost, a_incomplete/*{}*/
      FROM written AS w
)
SELECT w.row_key, w.op FROM written AS w;
