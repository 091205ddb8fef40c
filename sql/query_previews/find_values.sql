-- The values of a text field in the caller's view that contain a word, whatever the case; equal ones first.
-- $1 organization, $2 limit (bigint), $3 user, $4 word, then what the marker needs (app/query_previews/values.py).
-- Returns value, equal (boolean: but for the case).
--
-- Plan: the trigram index of the search finds the mirror's rows that have the word anywhere; of the caller's
-- modifications all are looked at. An id is found by the primary keys. A computed text is in no search: all rows are
-- read, and the word is looked for in each value once.
SELECT r.value, vanguard.fold(r.value) = (SELECT vanguard.fold($4)) AS equal
  FROM (
    /*{arms}*/
    SELECT m.f_category AS value
      FROM pfa.mirror AS m
     WHERE m.organization_id = $1
       AND m.search LIKE vanguard.search_pattern($4::text)
       AND NOT EXISTS (SELECT FROM pfa.modification AS x
                        WHERE x.organization_id = $1 AND x.user_id = $3
                          AND (x.leaves OR x.lands OR x.reworded) AND x.row_key = m.row_key)
    UNION ALL
    SELECT x.a_category AS value
      FROM pfa.modification AS x
     WHERE x.organization_id = $1 AND x.user_id = $3 AND x.lands
    /*{}*/
       ) AS r
 WHERE strpos(vanguard.fold(r.value), (SELECT vanguard.fold($4))) > 0
 GROUP BY r.value
 ORDER BY equal DESC, r.value COLLATE "C"
 LIMIT $2::bigint;
