-- What stays behind of modifications that have gone to another version, as drafts; those of which nothing stays are
-- taken away.
-- $1 organization, $2 modifications (jsonb: [{user_id, row_key, stays (boolean), delta, base}]).
-- Returns row_key of each that stays.
WITH gone AS (
    SELECT r.user_id, r.row_key, r.stays, r.delta, r.base
      FROM jsonb_to_recordset($2::jsonb) AS r (user_id text, row_key text, stays boolean, delta jsonb, base jsonb)
), removed AS (
    DELETE FROM pfa.modification AS x
     USING gone AS g
     WHERE x.organization_id = $1
       AND x.user_id = g.user_id
       AND x.row_key = g.row_key
       AND NOT g.stays
)
UPDATE pfa.modification AS x
   SET pending_op = NULL, pending = '{}', pending_state = NULL,
       draft_op = CASE WHEN x.draft_op = 'insert' THEN 'insert' ELSE 'update' END,
       delta = g.delta, base = g.base, session_id = NULL
  FROM gone AS g
 WHERE x.organization_id = $1
   AND x.user_id = g.user_id
   AND x.row_key = g.row_key
   AND g.stays
RETURNING x.row_key;
