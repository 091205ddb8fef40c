-- Which of the given values of one field other rows have: rows of the mirror as they are with the outbox folded in,
-- rows to which another unfinished change gives the value, and rows that the user's own drafts give it to. Where the
-- user has changed the field of such a row, it counts as the user has it. With a session, only the drafts of that one
-- count; without a user, none, and nothing that is under review: that is what a commit asks, once its own changes are
-- there and it holds lock 6.
--
-- $1 organization, $2 user (text, or NULL), $3 cells (jsonb, a row once: [{id, <field>: value}]), $4 session_id (text,
-- or NULL).
-- Returns row_key (the cell's), other (the key of a row that has its value) for each value that is taken; NULL and what
-- is no value of the field's type never are.
--
-- Plan: for each value the index of the mirror, that of unfinished changes and that of the user's landings, all by the
-- value, and primary keys for what is found; LIMIT keeps the planner from a join over all rows. Where it knows nothing
-- of the tables, other indexes cost the same. So a value is sought between itself and itself, in its order: what those
-- find would have to be sorted.
WITH wanted AS MATERIALIZED (
    SELECT item.cell ->> 'id' AS row_key, /*{given}*/vanguard.as_text(item.cell, 'model') COLLATE "C"/*{}*/ AS value
      FROM jsonb_array_elements($3::jsonb) AS item (cell)
)
SELECT w.row_key, taken.row_key AS other
  FROM wanted AS w
 CROSS JOIN LATERAL (
           (SELECT m.row_key
              FROM pfa.mirror AS m
             CROSS JOIN LATERAL (
                       SELECT CASE WHEN pfa.in_flight($1, m.row_key) THEN pfa.theirs($1, NULL, m.row_key, m.data)
                                   ELSE m.data END AS document
                       OFFSET 0
                   ) AS now
             WHERE m.organization_id = $1
               AND m./*{mirrored}*/f_model/*{}*/ BETWEEN w.value AND w.value
               AND m.row_key <> w.row_key
               AND /*{now}*/vanguard.as_text(now.document, 'model') COLLATE "C"/*{}*/ = w.value
               AND (SELECT /*{otherwise}*/x.a_model IS DISTINCT FROM x.b_model
                           AND x.a_model IS DISTINCT FROM w.value/*{}*/
                      FROM pfa.modification AS x
                     WHERE x.organization_id = $1 AND x.user_id = $2 AND x.row_key = m.row_key
                       AND ($4::text IS NULL OR x.session_id = $4)
                     LIMIT 1) IS NOT TRUE
             ORDER BY m./*{mirrored}*/f_model/*{}*/
             LIMIT 1)
           UNION ALL
           (SELECT c.row_key
              FROM pfa.change AS c
              LEFT JOIN LATERAL (
                       SELECT m.data FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = c.row_key LIMIT 1
                   ) AS m ON TRUE
             CROSS JOIN LATERAL (
                       SELECT CASE WHEN c.state = ANY (vanguard.outbox())
                                   THEN pfa.theirs($1, NULL, c.row_key, m.data) ELSE c.delta END AS document
                       OFFSET 0
                   ) AS now
             WHERE c.organization_id = $1
               AND c.state = ANY (vanguard.unfinished())
               AND ($2::text IS NOT NULL OR c.state <> 'in_review')
               AND /*{changed}*/vanguard.as_text(c.delta, 'model') COLLATE "C"/*{}*/ BETWEEN w.value AND w.value
               AND c.row_key <> w.row_key
               AND /*{now}*/vanguard.as_text(now.document, 'model') COLLATE "C"/*{}*/ = w.value
               AND (SELECT /*{otherwise}*/x.a_model IS DISTINCT FROM x.b_model
                           AND x.a_model IS DISTINCT FROM w.value/*{}*/
                      FROM pfa.modification AS x
                     WHERE x.organization_id = $1 AND x.user_id = $2 AND x.row_key = c.row_key
                       AND ($4::text IS NULL OR x.session_id = $4)
                     LIMIT 1) IS NOT TRUE
             ORDER BY /*{changed}*/vanguard.as_text(c.delta, 'model') COLLATE "C"/*{}*/
             LIMIT 1)
           UNION ALL
           (SELECT x.row_key
              FROM pfa.modification AS x
             WHERE x.organization_id = $1
               AND x.user_id = $2
               AND x.lands
               AND ($4::text IS NULL OR x.session_id = $4)
               AND x./*{landed}*/a_model/*{}*/ BETWEEN w.value AND w.value
               AND x.row_key <> w.row_key
             ORDER BY x./*{landed}*/a_model/*{}*/
             LIMIT 1)
           LIMIT 1
       ) AS taken
 WHERE w.value IS NOT NULL;
