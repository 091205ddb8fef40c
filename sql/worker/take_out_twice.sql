-- Take out of the staged rows those whose key the mirror has for another row: what upstream knows a row by, beside the
-- key, differs. In a full pull only those that came before in the same pull: of others the row may have become another.
-- What the mirror does not know tells nothing: a row that was pushed and could not be read back has what was sent.
-- $1 organization, $2 identifying (jsonb: names of the fields), $3 full (boolean). Returns row_key, data of each.
-- Plan: each staged row by mirror_pkey and pulled_pkey; subqueries of one row, as in sift_staged.
DELETE FROM staged AS s
 WHERE (SELECT NOT vanguard.pick(s.data, $2) @> jsonb_strip_nulls(vanguard.pick(m.data, $2))
          FROM pfa.mirror AS m
         WHERE m.organization_id = $1 AND m.row_key = s.row_key
         LIMIT 1)
   AND (NOT $3 OR (SELECT p.row_key
                     FROM pfa.pulled AS p
                    WHERE p.organization_id = $1 AND p.row_key = s.row_key
                    LIMIT 1) IS NOT NULL)
RETURNING s.row_key, s.data;
