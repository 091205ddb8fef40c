-- Whether a row is known: the mirror or its history has it, or the caller has drafted it. What others draft is theirs.
-- $1 organization, $2 user, $3 key (of the row). Returns known.
SELECT EXISTS (SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = $3)
    OR EXISTS (SELECT FROM pfa.history AS h WHERE h.organization_id = $1 AND h.row_key = $3)
    OR EXISTS (SELECT FROM pfa.modification AS x
                WHERE x.organization_id = $1 AND x.user_id = $2 AND x.row_key = $3) AS known;
