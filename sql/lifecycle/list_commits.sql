-- What people committed to a version beyond a revision, row by row and person by person, in the order of revisions.
-- $1 organization, $2 revision (bigint). Returns revision, row_key, op, before, after, actor, commit_id, change_reason,
-- own (jsonb: the row as this version has it now), data (as the other one has it), NULL where there is none.
-- Plan: a range of history's primary key, the primary keys of both mirrors.
SELECT h.revision, h.row_key, h.op, h.before, h.after, h.actor, h.commit_id, h.change_reason, m.data AS own, n.data
  FROM pfa.history AS h
  LEFT JOIN LATERAL (
           SELECT m.data
             FROM pfa.mirror AS m
            WHERE m.organization_id = $1 AND m.row_key = h.row_key
            LIMIT 1
       ) AS m ON TRUE
  LEFT JOIN LATERAL (
           SELECT n.data
             FROM /*{other}*/pfa/*{}*/.mirror AS n
            WHERE n.organization_id = $1 AND n.row_key = h.row_key
            LIMIT 1
       ) AS n ON TRUE
 WHERE h.organization_id = $1
   AND h.revision > $2
   AND h.commit_id IS NOT NULL
   AND h.actor IS NOT NULL
 ORDER BY h.revision, h.row_key;
