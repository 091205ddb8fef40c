-- Delete the modifications that came out empty; named by their keys, so that nobody else's work in progress is read.
-- They are taken off what their users hold where their lock 2 is held; others are said to hold a little more.
-- $1 organization, $2 user (or NULL for everybody's), $3 keys (text[]), $4 dataset, $5 raised (text[]: the users whose
-- lock 2 is held). Returns nothing.
WITH swept AS (
    DELETE FROM pfa.modification AS x
     WHERE x.organization_id = $1
       AND ($2::text IS NULL OR x.user_id = $2)
       AND x.row_key = ANY ($3::text[])
       AND x.draft_op IS NULL
       AND x.pending_op IS NULL
    RETURNING x.user_id, pg_column_size(x.delta || '{}') AS bytes
)
UPDATE public.workspace AS w
   SET held_rows = w.held_rows - n.rows, held_bytes = w.held_bytes - n.bytes
  FROM (SELECT s.user_id, count(*) AS rows, sum(s.bytes)::bigint AS bytes FROM swept AS s GROUP BY s.user_id) AS n
 WHERE w.organization_id = $1
   AND w.dataset = $4
   AND w.user_id = n.user_id
   AND w.user_id = ANY ($5::text[]);
