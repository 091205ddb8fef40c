-- Bring modifications up to date with their rows: index image, leaves and lands, and the conflicts that a draft now
-- has.
-- Runs after the statement that changed the mirror or the layers, never in it: it has to see what that one wrote.
--
-- $1 organization, $2 user (or NULL for everybody's), $3 keys (text[]), $4 groups (jsonb atomic groups), $5 revision
-- (bigint: the one whose deletions took rows away under drafts, or NULL when the mirror did not change).
-- A row deleted under a draft: the whole row goes into base, and the draft stands in conflict; a drafted deletion of it
-- is done with. A change that upstream's row stood in the way of shows its conflicts, whatever is drafted over it.
-- Returns row_key, user_id, newly: it came into conflict just now.
WITH present AS (
    SELECT x.user_id, x.row_key, x.pending_op, x.pending, x.pending_state, x.draft_op, x.delta, x.base, x.conflicts,
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
    SELECT p.user_id, p.row_key, p.pending_op, p.pending, p.pending_state, p.delta, p.data, p.mirror_version, p.theirs, p.conflicts,
           CASE WHEN p.draft_op = 'delete' AND p.theirs IS NULL THEN NULL ELSE p.draft_op END AS draft_op,
           CASE WHEN p.gone IS NOT NULL AND p.draft_op = 'update' THEN p.gone ELSE p.base END AS base,
           /*{before_names}*/b_search, b_area_silo, b_category, b_class, b_source, b_dor, b_monthly_rate, b_manufacturer, b_model, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_has_actuals, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete/*{}*/
      FROM present AS p
),
merged AS (
    SELECT s.*, d.doc, l.layer,
           CASE
               WHEN s.pending_state = 'conflict' THEN nullif(pfa.refused($1, s.user_id, s.row_key, s.data, $4), '[]')
               WHEN s.draft_op IS NULL THEN NULL
               WHEN s.draft_op = 'update' AND s.theirs IS NULL
                   THEN jsonb_build_array(jsonb_build_object(
                            'id', s.row_key, 'field', NULL,
                            'base', pfa.beneath($1, s.row_key, s.data, s.pending) || s.base, 'theirs', NULL,
                            'mine', pfa.beneath($1, s.row_key, s.data, s.pending) || s.base || s.delta))
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
     CROSS JOIN LATERAL (
               SELECT CASE WHEN s.data IS NOT NULL AND d.doc IS NOT NULL THEN s.pending || s.delta END AS layer
               OFFSET 0
           ) AS l
),
image AS (
    SELECT merged.*,
           /*{image}*/CASE WHEN NOT layer ?| ARRAY['pfaId', 'organization', 'areaSilo', 'category', 'forecastCategory', 'class', 'manufacturer', 'model', 'contract', 'equipment', 'pemsVersion'] THEN b_search ELSE vanguard.fold(coalesce(doc ->> 'pfaId', '') || E'\x1f' || coalesce(doc ->> 'organization', '') || E'\x1f' || coalesce(doc ->> 'areaSilo', '') || E'\x1f' || coalesce(doc ->> 'category', '') || E'\x1f' || coalesce(doc ->> 'forecastCategory', '') || E'\x1f' || coalesce(doc ->> 'class', '') || E'\x1f' || coalesce(doc ->> 'manufacturer', '') || E'\x1f' || coalesce(doc ->> 'model', '') || E'\x1f' || coalesce(doc ->> 'contract', '') || E'\x1f' || coalesce(doc ->> 'equipment', '') || E'\x1f' || coalesce(doc ->> 'pemsVersion', '')) END AS a_search, CASE WHEN NOT layer ? 'areaSilo' THEN b_area_silo ELSE vanguard.as_text(doc -> 'areaSilo') END AS a_area_silo, CASE WHEN NOT layer ? 'category' THEN b_category ELSE vanguard.as_text(doc -> 'category') END AS a_category, CASE WHEN NOT layer ? 'class' THEN b_class ELSE vanguard.as_text(doc -> 'class') END AS a_class, CASE WHEN NOT layer ? 'source' THEN b_source ELSE vanguard.as_text(doc -> 'source') END AS a_source, CASE WHEN NOT layer ? 'dor' THEN b_dor ELSE vanguard.as_text(doc -> 'dor') END AS a_dor, CASE WHEN NOT layer ? 'monthlyRate' THEN b_monthly_rate ELSE vanguard.as_number(doc -> 'monthlyRate') END AS a_monthly_rate, CASE WHEN NOT layer ? 'manufacturer' THEN b_manufacturer ELSE vanguard.as_text(doc -> 'manufacturer') END AS a_manufacturer, CASE WHEN NOT layer ? 'model' THEN b_model ELSE vanguard.as_text(doc -> 'model') END AS a_model, CASE WHEN NOT layer ? 'originalStart' THEN b_original_start ELSE vanguard.as_date(doc -> 'originalStart') END AS a_original_start, CASE WHEN NOT layer ? 'originalEnd' THEN b_original_end ELSE vanguard.as_date(doc -> 'originalEnd') END AS a_original_end, CASE WHEN NOT layer ? 'forecastStart' THEN b_forecast_start ELSE vanguard.as_date(doc -> 'forecastStart') END AS a_forecast_start, CASE WHEN NOT layer ? 'forecastEnd' THEN b_forecast_end ELSE vanguard.as_date(doc -> 'forecastEnd') END AS a_forecast_end, CASE WHEN NOT layer ? 'actualStart' THEN b_actual_start ELSE vanguard.as_date(doc -> 'actualStart') END AS a_actual_start, CASE WHEN NOT layer ? 'actualEnd' THEN b_actual_end ELSE vanguard.as_date(doc -> 'actualEnd') END AS a_actual_end, CASE WHEN NOT layer ? 'isActualized' THEN b_is_actualized ELSE vanguard.as_boolean(doc -> 'isActualized') END AS a_is_actualized, CASE WHEN NOT layer ? 'isDiscontinued' THEN b_is_discontinued ELSE vanguard.as_boolean(doc -> 'isDiscontinued') END AS a_is_discontinued, CASE WHEN NOT layer ? 'isFundsTransferable' THEN b_is_funds_transferable ELSE vanguard.as_boolean(doc -> 'isFundsTransferable') END AS a_is_funds_transferable, CASE WHEN NOT layer ? 'hasActuals' THEN b_has_actuals ELSE vanguard.as_boolean(doc -> 'hasActuals') END AS a_has_actuals/*{}*/
      FROM merged
    OFFSET 0
),
completed AS MATERIALIZED (
    SELECT image.*/*{computed_image}*/, CASE WHEN NOT layer ?| ARRAY['source', 'monthlyRate', 'purchasePrice', 'originalStart', 'originalEnd'] THEN b_plan_cost ELSE pfa.cost(a_source, a_monthly_rate, vanguard.as_number(doc -> 'purchasePrice'), a_original_start, a_original_end) END AS a_plan_cost, CASE WHEN NOT layer ?| ARRAY['source', 'monthlyRate', 'purchasePrice', 'forecastStart', 'forecastEnd'] THEN b_forecast_cost ELSE pfa.cost(a_source, a_monthly_rate, vanguard.as_number(doc -> 'purchasePrice'), a_forecast_start, a_forecast_end) END AS a_forecast_cost, CASE WHEN NOT layer ?| ARRAY['source', 'monthlyRate', 'purchasePrice', 'actualStart', 'actualEnd'] THEN b_actual_cost ELSE pfa.actual_cost(a_source, a_monthly_rate, vanguard.as_number(doc -> 'purchasePrice'), a_actual_start, a_actual_end) END AS a_actual_cost, CASE WHEN NOT layer ?| ARRAY['source', 'monthlyRate'] THEN b_monthly_rental ELSE pfa.monthly_rental(a_source, a_monthly_rate) END AS a_monthly_rental, CASE WHEN NOT layer ?| ARRAY['source', 'purchasePrice'] THEN b_purchase_cost ELSE pfa.purchase_cost(a_source, vanguard.as_number(doc -> 'purchasePrice')) END AS a_purchase_cost, CASE WHEN NOT layer ?| ARRAY['source', 'monthlyRate', 'purchasePrice', 'originalStart', 'originalEnd', 'forecastStart', 'forecastEnd'] THEN b_incomplete ELSE pfa.incomplete(a_source, a_monthly_rate, vanguard.as_number(doc -> 'purchasePrice'), a_original_start, a_original_end, a_forecast_start, a_forecast_end) END AS a_incomplete/*{}*/
      FROM image
),
imaged AS (
    SELECT completed.*,
           /*{differs}*/(b_area_silo, b_category, b_class, b_source, b_dor, b_monthly_rate, b_manufacturer, b_model, b_original_start, b_original_end, b_forecast_start, b_forecast_end, b_actual_start, b_actual_end, b_is_actualized, b_is_discontinued, b_is_funds_transferable, b_has_actuals, b_plan_cost, b_forecast_cost, b_actual_cost, b_monthly_rental, b_purchase_cost, b_incomplete) IS DISTINCT FROM (a_area_silo, a_category, a_class, a_source, a_dor, a_monthly_rate, a_manufacturer, a_model, a_original_start, a_original_end, a_forecast_start, a_forecast_end, a_actual_start, a_actual_end, a_is_actualized, a_is_discontinued, a_is_funds_transferable, a_has_actuals, a_plan_cost, a_forecast_cost, a_actual_cost, a_monthly_rental, a_purchase_cost, a_incomplete)/*{}*/ AS differs
      FROM completed
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
   AND x.row_key = imaged.row_key
RETURNING x.row_key, x.user_id, imaged.new_conflicts IS NOT NULL AND imaged.conflicts IS NULL AS newly;
