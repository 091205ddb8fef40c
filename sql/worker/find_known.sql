-- Which of these keys cannot be those of a new row that was sent without one: rows that the mirror had before it was
-- sent, or that came by another push, and keys that another new row was given. A row that a pull brought since may be
-- it.
-- $1 organization, $2 keys (text[]), $3 sent_at (timestamptz: when the new row was sent). Returns row_key.
SELECT k.row_key
  FROM unnest($2::text[]) AS k (row_key)
 WHERE EXISTS (SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = k.row_key)
       AND NOT EXISTS (SELECT FROM pfa.history AS h
                        WHERE h.organization_id = $1 AND h.row_key = k.row_key AND h.op = 'insert' AND h.source = 'pull'
                          AND h.at >= $3)
    OR EXISTS (SELECT FROM pfa.change AS c
                WHERE c.organization_id = $1 AND c.row_key = k.row_key AND c.temporary_key IS NOT NULL);
