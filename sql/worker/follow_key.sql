-- Upstream gave a new row its key: what pointed at the temporary one follows. The changes of the row, and the
-- modifications of its author and of whoever edits it; somebody else's new row of the same temporary name stays what it
-- is, with all that is over it. fold_pending and image_modifications follow.
-- $1 organization, $2 temporary_key (text), $3 key (text: the one that was given), $4 user (who made the row),
-- $5 key_field (text: name of the key field), $6 change_id (bigint: the change that was settled).
-- A draft that somebody has on the key already (a pull was faster) goes over what follows.
WITH apart AS MATERIALIZED (
    SELECT c.user_id
      FROM pfa.change AS c
     WHERE c.organization_id = $1
       AND c.row_key = $2
       AND c.user_id <> $4
       AND c.op = 'insert'
       AND c.state = ANY (vanguard.unfinished())
    UNION
    SELECT x.user_id
      FROM pfa.modification AS x
     WHERE x.organization_id = $1
       AND x.row_key = $2
       AND x.user_id <> $4
       AND x.draft_op = 'insert'
),
changed AS (
    UPDATE pfa.change AS c
       SET row_key = $3, temporary_key = CASE WHEN c.id = $6 THEN $2 END
     WHERE c.organization_id = $1
       AND c.row_key = $2
       AND (c.id = $6
            OR c.state = ANY (vanguard.unfinished())
               AND c.user_id NOT IN (SELECT a.user_id FROM apart AS a))
),
there AS MATERIALIZED (
    SELECT x.user_id
      FROM pfa.modification AS x
     WHERE x.organization_id = $1
       AND x.row_key = $3
),
covered AS (
    UPDATE pfa.modification AS x
       SET pending_op = coalesce(x.pending_op, t.pending_op),
           pending_state = coalesce(x.pending_state, t.pending_state),
           draft_op = coalesce(x.draft_op, t.draft_op),
           delta = CASE WHEN x.draft_op IS NULL OR x.draft_op = 'update' AND t.draft_op = 'update'
                        THEN (t.delta - $5::text) || x.delta ELSE x.delta END,
           base = CASE WHEN x.draft_op IS NULL OR x.draft_op = 'update' AND t.draft_op = 'update'
                       THEN t.base || x.base ELSE x.base END
      FROM pfa.modification AS t
     WHERE x.organization_id = $1
       AND x.row_key = $3
       AND t.organization_id = $1
       AND t.user_id = x.user_id
       AND t.row_key = $2
       AND t.user_id NOT IN (SELECT a.user_id FROM apart AS a)
),
removed AS (
    DELETE FROM pfa.modification AS x
     WHERE x.organization_id = $1
       AND x.row_key = $2
       AND x.user_id IN (SELECT t.user_id FROM there AS t)
       AND x.user_id NOT IN (SELECT a.user_id FROM apart AS a)
)
UPDATE pfa.modification AS x
   SET row_key = $3, delta = x.delta - $5::text
 WHERE x.organization_id = $1
   AND x.row_key = $2
   AND x.user_id NOT IN (SELECT t.user_id FROM there AS t)
   AND x.user_id NOT IN (SELECT a.user_id FROM apart AS a);
