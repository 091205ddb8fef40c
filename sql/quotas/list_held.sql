-- Who holds how much, the most first: modifications with the bytes that they draft, and kept answers.
-- $1 organization (or NULL for all), $2 limit (bigint).
-- Returns organization, user, rows, bytes, keys, answers (bytes).
-- All organizations: the operator looks at who holds how much; a table of the command line.
WITH drafted AS (
    SELECT w.organization_id, w.user_id, sum(w.held_rows)::bigint AS rows, sum(w.held_bytes)::bigint AS bytes
      FROM public.workspace AS w
     WHERE $1::text IS NULL
        OR w.organization_id = $1
     GROUP BY w.organization_id, w.user_id
)
SELECT organization_id AS organization, user_id AS user, coalesce(d.rows, 0) AS rows, coalesce(d.bytes, 0) AS bytes,
       coalesce(k.keys, 0) AS keys, coalesce(k.bytes, 0) AS answers
  FROM drafted AS d
  FULL JOIN (SELECT k.organization_id, k.user_id, k.keys, k.bytes
               FROM public.kept_answers AS k
              WHERE $1 IS NULL
                 OR k.organization_id = $1) AS k USING (organization_id, user_id)
 ORDER BY coalesce(d.bytes, 0) + coalesce(k.bytes, 0) DESC, organization_id, user_id
 LIMIT $2;
