-- Apply the changes of a commit to the mirror, write history, and finish them. The caller holds locks 1, 3 (exclusive)
-- and 4 on these rows. Whoever has modifications there is re-imaged afterwards, by statements of their own.
--
-- $1 organization, $2 commit_id (uuid), $3 revision (bigint: the dataset's new one), $4 key_field (text: name of the
-- key field), $5 source (text: of the change), $6 at (timestamptz now). Returns applied, the number of changes.
--
-- History keeps the images of what KPIs need: before from the row as it was, after from the row as it is written.
-- Plan: the commit's changes by change_commit, each row of the mirror by its primary key. The results of steps are not
-- joined with each other: the planner knows nothing of their size.
WITH due AS MATERIALIZED (
    SELECT c.row_key, c.user_id, c.op, c.change_reason,
           CASE c.op WHEN 'insert' THEN jsonb_build_object($4::text, c.row_key) || c.delta ELSE c.delta END AS delta
      FROM pfa.change AS c
     WHERE c.organization_id = $1
       AND c.commit_id = $2
       AND c.state = 'committed'
),
updated AS (
    UPDATE pfa.mirror AS m
       SET data = m.data || d.delta, version = m.version + 1, revision = $3, updated_at = $6
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
    RETURNING m.row_key, d.op,
              vanguard.pick(w.data, (SELECT jsonb_agg(name) FROM jsonb_object_keys(d.delta) AS name)) AS before,
              d.delta AS after, d.user_id, d.change_reason/*{kpi_befores}*/, b_area_silo, b_category, b_class, b_source, b_dor, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete/*{}*//*{kpi_after}*/, m.f_area_silo AS a_area_silo, m.f_category AS a_category, m.f_class AS a_class, m.f_source AS a_source, m.f_dor AS a_dor, m.f_original_start AS a_original_start, m.f_original_end AS a_original_end, m.f_forecast_start AS a_forecast_start, m.f_forecast_end AS a_forecast_end, m.f_actual_start AS a_actual_start, m.f_actual_end AS a_actual_end, m.f_is_actualized AS a_is_actualized, m.f_is_discontinued AS a_is_discontinued, m.f_is_funds_transferable AS a_is_funds_transferable, m.f_plan_cost AS a_plan_cost, m.f_forecast_cost AS a_forecast_cost, m.f_actual_cost AS a_actual_cost, m.f_monthly_rental AS a_monthly_rental, m.f_purchase_cost AS a_purchase_cost, m.f_incomplete AS a_incomplete/*{}*/
),
inserted AS (
    INSERT INTO pfa.mirror AS m (organization_id, row_key, data, version, revision, updated_at)
    SELECT $1, d.row_key, d.delta, 1, $3, $6
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
    RETURNING m.row_key, d.op, m.data, d.user_id, d.change_reason/*{kpi_before}*/, m.f_area_silo AS b_area_silo, m.f_category AS b_category, m.f_class AS b_class, m.f_source AS b_source, m.f_dor AS b_dor, m.f_original_start AS b_original_start, m.f_original_end AS b_original_end, m.f_forecast_start AS b_forecast_start, m.f_forecast_end AS b_forecast_end, m.f_actual_start AS b_actual_start, m.f_actual_end AS b_actual_end, m.f_is_actualized AS b_is_actualized, m.f_is_discontinued AS b_is_discontinued, m.f_is_funds_transferable AS b_is_funds_transferable, m.f_plan_cost AS b_plan_cost, m.f_forecast_cost AS b_forecast_cost, m.f_actual_cost AS b_actual_cost, m.f_monthly_rental AS b_monthly_rental, m.f_purchase_cost AS b_purchase_cost, m.f_incomplete AS b_incomplete/*{}*/
),
written AS (
    SELECT u.row_key, u.op, u.before, u.after, u.user_id, u.change_reason/*{kpi_befores}*/, b_area_silo, b_category, b_class, b_source, b_dor, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete/*{}*//*{kpi_afters}*/, a_area_silo, a_category, a_class, a_source, a_dor, a_original_start, a_original_end, a_forecast_start, a_forecast_end, a_actual_start, a_actual_end, a_is_actualized, a_is_discontinued, a_is_funds_transferable, a_plan_cost, a_forecast_cost, a_actual_cost, a_monthly_rental, a_purchase_cost, a_incomplete/*{}*/
      FROM updated AS u
    UNION ALL
    SELECT i.row_key, 'insert', NULL, i.data, c.user_id, c.change_reason/*{kpi_no_before}*/, NULL::text COLLATE "C" AS b_area_silo, NULL::text COLLATE "C" AS b_category, NULL::text COLLATE "C" AS b_class, NULL::text COLLATE "C" AS b_source, NULL::text COLLATE "C" AS b_dor, NULL::date AS b_original_start, NULL::date AS b_original_end, NULL::date AS b_forecast_start, NULL::date AS b_forecast_end, NULL::date AS b_actual_start, NULL::date AS b_actual_end, NULL::boolean AS b_is_actualized, NULL::boolean AS b_is_discontinued, NULL::boolean AS b_is_funds_transferable, NULL::numeric AS b_plan_cost, NULL::numeric AS b_forecast_cost, NULL::numeric AS b_actual_cost, NULL::numeric AS b_monthly_rental, NULL::numeric AS b_purchase_cost, NULL::boolean AS b_incomplete/*{}*//*{kpi_afters}*/, a_area_silo, a_category, a_class, a_source, a_dor, a_original_start, a_original_end, a_forecast_start, a_forecast_end, a_actual_start, a_actual_end, a_is_actualized, a_is_discontinued, a_is_funds_transferable, a_plan_cost, a_forecast_cost, a_actual_cost, a_monthly_rental, a_purchase_cost, a_incomplete/*{}*/
      FROM inserted AS i
     CROSS JOIN LATERAL (
               SELECT c.user_id, c.change_reason
                 FROM pfa.change AS c
                WHERE c.organization_id = $1 AND c.row_key = i.row_key AND c.commit_id = $2 AND c.state = 'committed'
                LIMIT 1
           ) AS c
    UNION ALL
    SELECT d.row_key, d.op, d.data, NULL, d.user_id, d.change_reason/*{kpi_befores}*/, b_area_silo, b_category, b_class, b_source, b_dor, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete/*{}*//*{kpi_no_after}*/, NULL::text COLLATE "C" AS a_area_silo, NULL::text COLLATE "C" AS a_category, NULL::text COLLATE "C" AS a_class, NULL::text COLLATE "C" AS a_source, NULL::text COLLATE "C" AS a_dor, NULL::date AS a_original_start, NULL::date AS a_original_end, NULL::date AS a_forecast_start, NULL::date AS a_forecast_end, NULL::date AS a_actual_start, NULL::date AS a_actual_end, NULL::boolean AS a_is_actualized, NULL::boolean AS a_is_discontinued, NULL::boolean AS a_is_funds_transferable, NULL::numeric AS a_plan_cost, NULL::numeric AS a_forecast_cost, NULL::numeric AS a_actual_cost, NULL::numeric AS a_monthly_rental, NULL::numeric AS a_purchase_cost, NULL::boolean AS a_incomplete/*{}*/
      FROM deleted AS d
),
recorded AS (
    INSERT INTO pfa.history (organization_id, revision, row_key, op, before, after, source, commit_id, actor, change_reason, at
                             /*{kpi_befores}*/, b_area_silo, b_category, b_class, b_source, b_dor, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete/*{}*//*{kpi_afters}*/, a_area_silo, a_category, a_class, a_source, a_dor, a_original_start, a_original_end, a_forecast_start, a_forecast_end, a_actual_start, a_actual_end, a_is_actualized, a_is_discontinued, a_is_funds_transferable, a_plan_cost, a_forecast_cost, a_actual_cost, a_monthly_rental, a_purchase_cost, a_incomplete/*{}*/)
    SELECT $1, $3, w.row_key, w.op, w.before, w.after, $5, $2, w.user_id, w.change_reason, $6
           /*{kpi_befores}*/, b_area_silo, b_category, b_class, b_source, b_dor, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete/*{}*//*{kpi_afters}*/, a_area_silo, a_category, a_class, a_source, a_dor, a_original_start, a_original_end, a_forecast_start, a_forecast_end, a_actual_start, a_actual_end, a_is_actualized, a_is_discontinued, a_is_funds_transferable, a_plan_cost, a_forecast_cost, a_actual_cost, a_monthly_rental, a_purchase_cost, a_incomplete/*{}*/
      FROM written AS w
),
finished AS (
    UPDATE pfa.change AS c
       SET state = 'synced'
     WHERE c.organization_id = $1
       AND c.commit_id = $2
       AND c.state = 'committed'
    RETURNING c.id
)
SELECT count(*) AS applied FROM finished;
