-- What the caller says that it saw of drafted cells becomes their base, but for its own draft. A drafted deletion is of
-- the whole row. The caller holds locks 2, 3 and 4 on these rows; the three-way check or image_modifications follows.
-- $1 organization, $2 user, $3 bases (jsonb, a row once: [{id, base: {field: value}}]), $4 groups (jsonb atomic
-- groups).
WITH given AS (
    SELECT x.place, x.base, x.delta, b.base AS seen,
           CASE x.draft_op WHEN 'delete' THEN (SELECT jsonb_agg(name) FROM jsonb_object_keys(b.base) AS name)
                           ELSE vanguard.touched(x.delta, $4) END AS touched
      FROM jsonb_to_recordset($3::jsonb) AS b (id text, base jsonb)
     CROSS JOIN LATERAL (
               SELECT x.ctid AS place, x.draft_op, x.base, x.delta
                 FROM pfa.modification AS x
                WHERE x.organization_id = $1 AND x.user_id = $2 AND x.row_key = b.id
                  AND x.draft_op IN ('update', 'delete')
                LIMIT 1
           ) AS x
)
UPDATE pfa.modification AS x
   SET base = g.base || (SELECT coalesce(jsonb_object_agg(field.key, field.value), '{}')
                           FROM jsonb_each(g.seen) AS field
                          WHERE g.touched ? field.key
                            AND field.value <> coalesce(g.delta -> field.key, g.base -> field.key, 'null'))
  FROM given AS g
 WHERE x.ctid = g.place;
