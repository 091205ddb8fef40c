-- The inverse of what a commit did to rows, as changes under review: cells as they were before, rows that it added
-- gone, rows that it deleted back. What is so already is left out. The caller holds locks 2, 3 and 4 on these rows;
-- fold_pending and image_modifications follow.
--
-- $1 organization, $2 user, $3 commit_id (uuid), $4 request_id (uuid: of the new request), $5 version (bigint: the
-- workspace's new revision), $6 at (timestamptz now), $7 groups (jsonb atomic groups), $8 fields (text[]: those that
-- can be edited), $9 reason (text).
-- Returns row_key, left_out (text[] or NULL: the fields that had a value and that nobody can write) of each.
--
-- base is what the commit made of the cell, so that what others have made of it since is a conflict. The history says
-- what a row was: a push can have made something else of it than the change wanted.
-- Plan: the commit's changes by change_committed, the history of each row by history_row, the mirror's primary key.
WITH done AS MATERIALIZED (
    SELECT c.row_key, h.op, h.before, h.after, m.data, coalesce(gone.document, '{}') AS gone
      FROM pfa.change AS c
     CROSS JOIN LATERAL (
               -- Of several, a row that was inserted and then completed, the last one tells how it came out.
               SELECT (array_agg(h.op ORDER BY h.revision))[1] AS op,
                      (array_agg(h.before ORDER BY h.revision))[1] AS before,
                      vanguard.layers('insert', coalesce(h.after, '{}') ORDER BY h.revision) AS after
                 FROM pfa.history AS h
                WHERE h.organization_id = $1
                  AND h.row_key = c.row_key
                  AND h.commit_id = $3
           ) AS h
      LEFT JOIN LATERAL (
               SELECT m.data FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = c.row_key LIMIT 1
           ) AS m ON TRUE
      LEFT JOIN LATERAL (
               -- A row that somebody has deleted since, so that a conflict shows it.
               SELECT g.before AS document
                 FROM pfa.history AS g
                WHERE m.data IS NULL AND g.organization_id = $1 AND g.row_key = c.row_key AND g.op = 'delete'
                ORDER BY g.revision DESC
                LIMIT 1
           ) AS gone ON TRUE
     WHERE c.organization_id = $1
       AND c.commit_id = $3
       AND c.state = 'synced'
       AND h.op IS NOT NULL
),
inverse AS MATERIALIZED (
    SELECT d.row_key, d.data, d.gone,
           CASE d.op WHEN 'update' THEN 'update' WHEN 'insert' THEN 'delete' ELSE 'insert' END AS op,
           CASE d.op
               WHEN 'update' THEN (SELECT coalesce(jsonb_object_agg(field.key, field.value), '{}')
                                     FROM jsonb_each(d.before) AS field
                                    WHERE field.key = ANY ($8::text[])
                                      AND field.value <> coalesce(d.after -> field.key, 'null'))
               WHEN 'insert' THEN '{}'
               ELSE d.before - ARRAY(SELECT name
                                       FROM jsonb_object_keys(d.before) AS name
                                      WHERE name <> ALL ($8))
           END AS delta,
           d.op AS was, d.before, d.after
      FROM done AS d
),
wanted AS MATERIALIZED (
    SELECT i.row_key, i.op, i.delta,
           CASE i.op WHEN 'update' THEN CASE WHEN i.data IS NULL THEN i.gone || i.after
                                             ELSE vanguard.pick(i.data || i.after, vanguard.touched(i.delta, $7)) END
                     WHEN 'delete' THEN i.after
                     ELSE '{}' END AS base,
           CASE WHEN i.op = 'insert'
                THEN (SELECT array_agg(field.key ORDER BY field.key COLLATE "C")
                        FROM jsonb_each(i.before) AS field
                       WHERE field.key <> ALL ($8) AND field.value <> 'null') END AS left_out
      FROM inverse AS i
     WHERE CASE i.op
               WHEN 'delete' THEN i.data IS NOT NULL
               WHEN 'insert' THEN i.data IS NULL OR NOT i.data @> i.delta
               ELSE i.delta <> '{}' AND (i.data IS NULL OR vanguard.pick(i.data, vanguard.touched(i.delta, '{}'))
                                                           <> i.delta)
           END
),
frozen AS (
    INSERT INTO pfa.change (organization_id, row_key, user_id, op, base, delta, state, change_request_id,
                            change_reason, created_at)
    SELECT $1, w.row_key, $2, w.op, w.base, w.delta, 'in_review', $4, $9, $6
      FROM wanted AS w
     ORDER BY w.row_key
),
laid AS (
    INSERT INTO pfa.modification AS x (organization_id, user_id, row_key, pending_op, pending, pending_state, version,
                                       leaves, lands, modified_at)
    SELECT $1, $2, w.row_key, w.op, w.delta, 'in_review', $5, FALSE, FALSE, $6
      FROM wanted AS w
    ON CONFLICT (organization_id, user_id, row_key) DO UPDATE
        SET pending_op = coalesce(x.pending_op, excluded.pending_op),
            pending_state = coalesce(x.pending_state, excluded.pending_state),
            version = $5, modified_at = $6
)
SELECT w.row_key, w.left_out
  FROM wanted AS w
 ORDER BY w.row_key;
