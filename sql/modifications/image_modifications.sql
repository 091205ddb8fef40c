-- Bring modifications up to date with their rows: index image, leaves and lands, and the conflicts that a draft now
-- has.
-- Runs after the statement that changed the mirror or the layers, never in it: it has to see what that one wrote.
--
-- $1 organization, $2 user (or NULL for everybody's), $3 keys (text[]), $4 groups (jsonb atomic groups), $5 revision
-- (bigint: the one whose deletions took rows away under drafts, or NULL when the mirror did not change).
-- A row deleted under a draft: the whole row goes into base, and the draft stands in conflict; a drafted deletion of it
-- is done with. What has no draft is of no session. A change that upstream's row stood in the way of shows its
-- conflicts, whatever is drafted over it.
-- Returns row_key, user_id, newly: it came into conflict just now.
--
-- Plan: modifications by keys, the mirror's primary key for each, the modifications again by their place: nobody else
-- writes them meanwhile, and a join by keys is quadratic where the planner expects few.
WITH present AS (
    SELECT x.ctid AS place, x.user_id, x.row_key, x.pending_op, x.pending, x.pending_state, x.draft_op, x.delta,
           x.base, x.conflicts, m.data, m.version AS mirror_version, gone.document AS gone,
           t.theirs,
           /*{before_columns}*/m.b_search, m.b_source, m.b_forecast_start, m.b_monthly_rental/*{}*/
      FROM pfa.modification AS x
      LEFT JOIN LATERAL (
               SELECT m.data, m.version,
                      /*{before_image}*/m.search AS b_search, m.f_source AS b_source,
                      m.f_forecast_start AS b_forecast_start, m.f_monthly_rental AS b_monthly_rental/*{}*/
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
     CROSS JOIN LATERAL (
               -- Only a draft is held against theirs.
               SELECT CASE WHEN x.draft_op IS NULL THEN NULL
                           WHEN pfa.in_flight($1, x.row_key) THEN pfa.theirs($1, x.user_id, x.row_key, m.data)
                           ELSE m.data END AS theirs
               OFFSET 0
           ) AS t
     WHERE x.organization_id = $1
       AND ($2::text IS NULL OR x.user_id = $2)
       AND x.row_key = ANY ($3::text[])
),
settled AS (
    SELECT p.place, p.user_id, p.row_key, p.pending_op, p.pending, p.pending_state, p.delta, p.data,
           p.mirror_version, p.theirs, p.conflicts,
           CASE WHEN p.draft_op = 'delete' AND p.theirs IS NULL THEN NULL ELSE p.draft_op END AS draft_op,
           -- The row that is gone, with an entry for what the draft touches and the row did not have.
           CASE WHEN p.draft_op = 'delete' AND p.theirs IS NULL THEN '{}'
                WHEN p.gone IS NOT NULL AND p.draft_op = 'update'
                THEN vanguard.pick(p.gone, vanguard.touched(p.delta, $4)) || p.gone ELSE p.base END AS base,
           /*{before_names}*/b_search, b_source, b_forecast_start, b_monthly_rental/*{}*/
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
               WHEN s.draft_op = 'delete' AND NOT vanguard.same_row(s.theirs, s.base)
                   THEN jsonb_build_array(jsonb_build_object(
                            'id', s.row_key, 'field', NULL, 'base', s.base, 'theirs', s.theirs, 'mine', NULL))
               WHEN s.draft_op = 'delete' OR s.theirs IS NULL THEN NULL
               ELSE nullif(vanguard.conflicts(s.row_key, s.base, s.theirs, s.delta, $4), '[]')
           END AS new_conflicts
      FROM settled AS s
     CROSS JOIN LATERAL (
               SELECT CASE
                          WHEN s.draft_op = 'delete' OR s.pending_op = 'delete' THEN NULL
                          WHEN s.data IS NULL
                               AND 'insert' NOT IN (coalesce(s.pending_op, ''), coalesce(s.draft_op, ''))
                              THEN NULL
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
           /*{image}*/
           CASE WHEN NOT layer ? 'pfaId' THEN b_search
                ELSE vanguard.fold(coalesce(doc ->> 'pfaId', '')) END AS a_search,
           CASE WHEN NOT layer ? 'source' THEN b_source
                ELSE vanguard.as_text(doc, 'source') END AS a_source,
           CASE WHEN NOT layer ? 'forecastStart' THEN b_forecast_start
                ELSE vanguard.as_date(doc, 'forecastStart') END AS a_forecast_start
           /*{}*/
      FROM merged
    OFFSET 0
),
completed AS MATERIALIZED (
    SELECT image.*
           /*{computed_image}*/,
           CASE WHEN NOT layer ?| ARRAY['source', 'monthlyRate'] THEN b_monthly_rental
                ELSE pfa.monthly_rental(a_source, vanguard.as_number(doc, 'monthlyRate')) END AS a_monthly_rental
           /*{}*/
      FROM image
),
imaged AS (
    SELECT completed.*,
           /*{differs}*/(b_source, b_forecast_start, b_monthly_rental)
           IS DISTINCT FROM (a_source, a_forecast_start, a_monthly_rental)/*{}*/ AS differs
      FROM completed
)
UPDATE pfa.modification AS x
   SET draft_op = imaged.draft_op, base = imaged.base, conflicts = imaged.new_conflicts,
       session_id = CASE WHEN imaged.draft_op IS NOT NULL THEN x.session_id END,
       mirror_version = imaged.mirror_version,
       leaves = imaged.data IS NOT NULL AND (imaged.doc IS NULL OR imaged.differs),
       lands = imaged.doc IS NOT NULL AND (imaged.data IS NULL OR imaged.differs),
       reworded = imaged.data IS NOT NULL AND imaged.doc IS NOT NULL AND NOT imaged.differs
                  AND imaged.b_search <> imaged.a_search,
       /*{set_image}*/b_source = imaged.b_source, b_forecast_start = imaged.b_forecast_start,
       b_monthly_rental = imaged.b_monthly_rental, a_search = imaged.a_search, a_source = imaged.a_source,
       a_forecast_start = imaged.a_forecast_start, a_monthly_rental = imaged.a_monthly_rental/*{}*/
  FROM imaged
 WHERE x.ctid = imaged.place
RETURNING x.row_key, x.user_id, imaged.new_conflicts IS NOT NULL AND imaged.conflicts IS NULL AS newly;
