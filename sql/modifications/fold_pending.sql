-- Fold what is still unfinished into pending, for every modification of these rows that has a pending part.
-- $1 organization, $2 keys (text[]), $3 user (or NULL for everybody's).
--
-- Plan: modifications by keys, the changes of each by change_unfinished, the modifications again by their place: nobody
-- else writes them meanwhile.
WITH folded AS (
    SELECT x.ctid AS place, f.layer, f.state
      FROM pfa.modification AS x
     CROSS JOIN LATERAL (
               SELECT vanguard.fold_layers(c.op, c.delta ORDER BY c.id) AS layer,
                      (array_agg(c.state ORDER BY array_position(
                          ARRAY['conflict', 'sync_error', 'syncing', 'committed', 'in_review'], c.state)))[1] AS state
                 FROM pfa.change AS c
                WHERE c.organization_id = $1
                  AND c.row_key = x.row_key
                  AND c.user_id = x.user_id
                  AND c.state = ANY (vanguard.unfinished())
           ) AS f
     WHERE x.organization_id = $1
       AND x.row_key = ANY ($2::text[])
       AND ($3::text IS NULL OR x.user_id = $3)
       AND x.pending_op IS NOT NULL
)
UPDATE pfa.modification AS x
   SET pending_op = f.layer ->> 'op', pending = coalesce(f.layer -> 'delta', '{}'), pending_state = f.state
  FROM folded AS f
 WHERE x.ctid = f.place;
