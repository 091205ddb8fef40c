-- Upstream keeps what was written in another form (trimmed, rounded, completed): for whoever had seen it as it was
-- written, the base is now what upstream made of it, so that nobody is in conflict with that. Later changes of the row,
-- and drafts.
-- $1 organization, $2 key (text: of the row), $3 change_id (bigint: the change that was settled), $4 written (jsonb:
-- what it wrote), $5 document (jsonb: the row as upstream has it), $6 inserted (boolean: the row is new, so that every
-- field is what upstream made of it).
WITH made AS MATERIALIZED (
    SELECT k.name, coalesce($4::jsonb -> k.name, 'null') AS written, $5::jsonb -> k.name AS kept
      FROM jsonb_object_keys($5::jsonb) AS k (name)
     WHERE ($6 OR $4::jsonb ? k.name)
       AND $5::jsonb -> k.name IS DISTINCT FROM $4::jsonb -> k.name
),
later AS (
    UPDATE pfa.change AS c
       SET base = c.base || n.base
      FROM pfa.change AS was
     CROSS JOIN LATERAL (
               SELECT coalesce(jsonb_object_agg(m.name, m.kept), '{}') AS base
                 FROM made AS m
                WHERE coalesce(was.base -> m.name, 'null') = m.written
                  AND (was.op = 'delete' OR was.base ? m.name)
           ) AS n
     WHERE was.organization_id = $1
       AND was.row_key = $2
       AND was.id > $3
       AND was.state = ANY (vanguard.unfinished())
       AND c.organization_id = $1
       AND c.id = was.id
       AND n.base <> '{}'
)
UPDATE pfa.modification AS x
   SET base = x.base || n.base
  FROM pfa.modification AS was
 CROSS JOIN LATERAL (
           SELECT coalesce(jsonb_object_agg(m.name, m.kept), '{}') AS base
             FROM made AS m
            WHERE coalesce(was.base -> m.name, 'null') = m.written
              AND (was.draft_op = 'delete' OR was.base ? m.name)
       ) AS n
 WHERE was.organization_id = $1
   AND was.row_key = $2
   AND was.draft_op IN ('update', 'delete')
   AND x.organization_id = $1
   AND x.user_id = was.user_id
   AND x.row_key = $2
   AND n.base <> '{}';
