-- Bring modifications up to date with their rows: index image, leaves and lands, and the conflicts that a draft now has.
-- Runs after the statement that changed the mirror or the layers, never in it: it has to see what that one wrote.
--
-- $1 organization, $2 user or NULL for everybody's, $3 text[] row keys, $4 jsonb atomic groups, $5 revision whose
--    deletions took rows away under drafts (NULL when the mirror did not change).
-- A row deleted under a draft: the whole row goes into base, and the draft stands in conflict; a drafted deletion of it is
-- done with.
WITH present AS (
    SELECT x.user_id, x.row_key, x.pending_op, x.pending, x.draft_op, x.delta, x.base, x.conflicts,
           m.data, m.version AS mirror_version, gone.document AS gone,
           CASE WHEN pfa.in_flight($1, x.row_key) THEN pfa.theirs($1, x.user_id, x.row_key, m.data) ELSE m.data END AS theirs,
           /*{before_columns}*/m.b_search, m.b_area_silo, m.b_category, m.b_class, m.b_source, m.b_dor, m.b_monthly_rate, m.b_manufacturer, m.b_model, m.b_original_start, m.b_original_end, m.b_forecast_start, m.b_forecast_end, m.b_actual_start, m.b_actual_end, m.b_is_actualized, m.b_is_discontinued, m.b_is_funds_transferable, m.b_has_actuals, m.b_plan_cost, m.b_forecast_cost, m.b_actual_cost, m.b_monthly_rental, m.b_purchase_cost, m.b_incomplete/*{}*/
      FROM pfa.modification AS x
      LEFT JOIN LATERAL (
               SELECT m.data, m.version, /*{before_image}*/m.search AS b_search, m.f_area_silo AS b_area_silo, m.f_category AS b_category, m.f_class AS b_class, m.f_source AS b_source, m.f_dor AS b_dor, m.f_monthly_rate AS b_monthly_rate, m.f_manufacturer AS b_manufacturer, m.f_model AS b_model, m.f_original_start AS b_original_start, m.f_original_end AS b_original_end, m.f_forecast_start AS b_forecast_start, m.f_forecast_end AS b_forecast_end, m.f_actual_start AS b_actual_start, m.f_actual_end AS b_actual_end, m.f_is_actualized AS b_is_actualized, m.f_is_discontinued AS b_is_discontinued, m.f_is_funds_transferable AS b_is_funds_transferable, m.f_has_actuals AS b_has_actuals, m.f_plan_cost AS b_plan_cost, m.f_forecast_cost AS b_forecast_cost, m.f_actual_cost AS b_actual_cost, m.f_monthly_rental AS b_monthly_rental, m.f_purchase_cost AS b_purchase_cost, m.f_incomplete AS b_incomplete/*{}*/
                 FROM pfa.mirror AS m
                WHERE m.organization_id = $1 AND m.row_key = x.row_key
                LIMIT 1
           ) AS m ON TRUE
      LEFT JOIN LATERAL (
               SELECT h.before AS document
                 FROM pfa.history AS h
                WHERE h.organization_id = $1 AND h.revision = $5 AND h.row_key = x.row_key AND h.op = 'delete'
                LIMIT 1
           ) AS gone ON TRUE
     WHERE x.organization_id = $1
       AND ($2::text IS NULL OR x.user_id = $2)
       AND x.row_key = ANY ($3::text[])
),
settled AS (
    SELECT p.user_id, p.row_key, p.pending_op, p.pending, p.delta, p.data, p.mirror_version, p.theirs, p.conflicts,
           CASE WHEN p.draft_op = 'delete' AND p.theirs IS NULL THEN NULL ELSE p.draft_op END AS draft_op,
           CASE WHEN p.gone IS NOT NULL AND p.draft_op = 'update' THEN p.gone ELSE p.base END AS base,
           /*{before_names}*/b_search, b_area_silo, b_category, b_class, b_source, b_dor, b_monthly_rate, b_manufacturer, b_model, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_has_actuals, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete/*{}*/
      FROM present AS p
),
merged AS (
    SELECT s.*, d.doc,
           CASE
               WHEN s.draft_op IS NULL THEN NULL
               WHEN s.draft_op = 'update' AND s.theirs IS NULL
                   THEN jsonb_build_array(jsonb_build_object(
                            'id', s.row_key, 'field', NULL, 'base', coalesce(s.data, '{}') || s.base, 'theirs', NULL,
                            'mine', coalesce(s.data, '{}') || s.base || s.delta))
               WHEN s.draft_op = 'delete' AND s.theirs IS DISTINCT FROM s.base
                   THEN jsonb_build_array(jsonb_build_object(
                            'id', s.row_key, 'field', NULL, 'base', s.base, 'theirs', s.theirs, 'mine', NULL))
               WHEN s.draft_op = 'delete' OR s.theirs IS NULL THEN NULL
               ELSE nullif(vanguard.conflicts(s.row_key, s.base, s.theirs, s.delta, $4), '[]')
           END AS new_conflicts
      FROM settled AS s
     CROSS JOIN LATERAL (
               SELECT CASE
                          WHEN s.draft_op = 'delete' OR s.pending_op = 'delete' THEN NULL
                          WHEN s.data IS NULL AND 'insert' NOT IN (coalesce(s.pending_op, ''), coalesce(s.draft_op, '')) THEN NULL
                          ELSE coalesce(s.data, '{}') || s.pending || s.delta
                      END AS doc
               OFFSET 0
           ) AS d
),
image AS MATERIALIZED (
    SELECT merged.*,
           /*{image}*/vanguard.fold(coalesce(doc ->> 'pfaId', '') || E'\x1f' || coalesce(doc ->> 'organization', '') || E'\x1f' || coalesce(doc ->> 'areaSilo', '') || E'\x1f' || coalesce(doc ->> 'category', '') || E'\x1f' || coalesce(doc ->> 'forecastCategory', '') || E'\x1f' || coalesce(doc ->> 'class', '') || E'\x1f' || coalesce(doc ->> 'manufacturer', '') || E'\x1f' || coalesce(doc ->> 'model', '') || E'\x1f' || coalesce(doc ->> 'contract', '') || E'\x1f' || coalesce(doc ->> 'equipment', '') || E'\x1f' || coalesce(doc ->> 'pemsVersion', '')) AS a_search, vanguard.as_text(doc -> 'areaSilo') AS a_area_silo, vanguard.as_text(doc -> 'category') AS a_category, vanguard.as_text(doc -> 'class') AS a_class, vanguard.as_text(doc -> 'source') AS a_source, vanguard.as_text(doc -> 'dor') AS a_dor, vanguard.as_number(doc -> 'monthlyRate') AS a_monthly_rate, vanguard.as_text(doc -> 'manufacturer') AS a_manufacturer, vanguard.as_text(doc -> 'model') AS a_model, vanguard.as_date(doc -> 'originalStart') AS a_original_start, vanguard.as_date(doc -> 'originalEnd') AS a_original_end, vanguard.as_date(doc -> 'forecastStart') AS a_forecast_start, vanguard.as_date(doc -> 'forecastEnd') AS a_forecast_end, vanguard.as_date(doc -> 'actualStart') AS a_actual_start, vanguard.as_date(doc -> 'actualEnd') AS a_actual_end, vanguard.as_boolean(doc -> 'isActualized') AS a_is_actualized, vanguard.as_boolean(doc -> 'isDiscontinued') AS a_is_discontinued, vanguard.as_boolean(doc -> 'isFundsTransferable') AS a_is_funds_transferable, vanguard.as_boolean(doc -> 'hasActuals') AS a_has_actuals, pfa.plan_cost(doc) AS a_plan_cost, pfa.forecast_cost(doc) AS a_forecast_cost, pfa.actual_cost(doc) AS a_actual_cost, pfa.monthly_rental(doc) AS a_monthly_rental, pfa.purchase_cost(doc) AS a_purchase_cost, pfa.incomplete(doc) AS a_incomplete/*{}*/
      FROM merged
),
imaged AS (
    SELECT image.*,
           /*{differs}*/(b_area_silo, b_category, b_class, b_source, b_dor, b_monthly_rate, b_manufacturer, b_model, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_has_actuals, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete) IS DISTINCT FROM (a_area_silo, a_category, a_class, a_source, a_dor, a_monthly_rate, a_manufacturer, a_model, a_original_start, a_original_end, a_forecast_start, a_forecast_end, a_actual_start, a_actual_end, a_is_actualized, a_is_discontinued, a_is_funds_transferable, a_has_actuals, a_plan_cost, a_forecast_cost, a_actual_cost, a_monthly_rental, a_purchase_cost, a_incomplete)/*{}*/ AS differs
      FROM image
)
UPDATE pfa.modification AS x
   SET draft_op = imaged.draft_op, base = imaged.base, conflicts = imaged.new_conflicts,
       mirror_version = imaged.mirror_version,
       leaves = imaged.data IS NOT NULL AND (imaged.doc IS NULL OR imaged.differs),
       lands = imaged.doc IS NOT NULL AND (imaged.data IS NULL OR imaged.differs),
       reworded = imaged.data IS NOT NULL AND imaged.doc IS NOT NULL AND NOT imaged.differs AND imaged.b_search <> imaged.a_search,
       /*{set_image}*/b_area_silo = imaged.b_area_silo, b_category = imaged.b_category, b_class = imaged.b_class, b_source = imaged.b_source, b_dor = imaged.b_dor, b_monthly_rate = imaged.b_monthly_rate, b_manufacturer = imaged.b_manufacturer, b_model = imaged.b_model, b_original_start = imaged.b_original_start, b_original_end = imaged.b_original_end, b_forecast_start = imaged.b_forecast_start, b_forecast_end = imaged.b_forecast_end, b_actual_start = imaged.b_actual_start, b_actual_end = imaged.b_actual_end, b_is_actualized = imaged.b_is_actualized, b_is_discontinued = imaged.b_is_discontinued, b_is_funds_transferable = imaged.b_is_funds_transferable, b_has_actuals = imaged.b_has_actuals, b_plan_cost = imaged.b_plan_cost, b_forecast_cost = imaged.b_forecast_cost, b_actual_cost = imaged.b_actual_cost, b_monthly_rental = imaged.b_monthly_rental, b_purchase_cost = imaged.b_purchase_cost, b_incomplete = imaged.b_incomplete, a_search = imaged.a_search, a_area_silo = imaged.a_area_silo, a_category = imaged.a_category, a_class = imaged.a_class, a_source = imaged.a_source, a_dor = imaged.a_dor, a_monthly_rate = imaged.a_monthly_rate, a_manufacturer = imaged.a_manufacturer, a_model = imaged.a_model, a_original_start = imaged.a_original_start, a_original_end = imaged.a_original_end, a_forecast_start = imaged.a_forecast_start, a_forecast_end = imaged.a_forecast_end, a_actual_start = imaged.a_actual_start, a_actual_end = imaged.a_actual_end, a_is_actualized = imaged.a_is_actualized, a_is_discontinued = imaged.a_is_discontinued, a_is_funds_transferable = imaged.a_is_funds_transferable, a_has_actuals = imaged.a_has_actuals, a_plan_cost = imaged.a_plan_cost, a_forecast_cost = imaged.a_forecast_cost, a_actual_cost = imaged.a_actual_cost, a_monthly_rental = imaged.a_monthly_rental, a_purchase_cost = imaged.a_purchase_cost, a_incomplete = imaged.a_incomplete/*{}*/
  FROM imaged
 WHERE x.organization_id = $1
   AND x.user_id = imaged.user_id
   AND x.row_key = imaged.row_key;
