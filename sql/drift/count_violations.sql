-- What breaks a limit: rows of the mirror, uncommitted values of drafts, and changes under way.
-- $1 organization, $2 field, $3 limits (jsonb: one of required true, values [..], bytes n, minimum n, maximum n,
-- scale n). Returns violations, their number.
-- Plan: the organization's part of the three tables, once. It is asked when a contract gets narrower, not by pages.
WITH documents AS (
    SELECT m.data AS doc, TRUE AS whole
      FROM pfa.mirror AS m
     WHERE m.organization_id = $1
    UNION ALL
    SELECT d.delta, FALSE
      FROM pfa.modification AS d
     WHERE d.organization_id = $1 AND d.draft_op IS NOT NULL AND d.delta ? $2
    UNION ALL
    SELECT c.delta, FALSE
      FROM pfa.change AS c
     WHERE c.organization_id = $1
       AND c.state = ANY (vanguard.unfinished())
       AND c.delta ? $2
)
SELECT count(*) AS violations
  FROM documents AS e
 WHERE CASE
           WHEN $3 ? 'required' THEN coalesce(jsonb_typeof(e.doc -> $2), 'null') = 'null'
           WHEN coalesce(jsonb_typeof(e.doc -> $2), 'null') = 'null' THEN FALSE
           WHEN $3 ? 'values' THEN NOT ($3 -> 'values') @> (e.doc -> $2)
           WHEN $3 ? 'bytes' THEN octet_length(e.doc ->> $2) > ($3 ->> 'bytes')::integer
           WHEN $3 ? 'minimum' THEN vanguard.as_number(e.doc, $2) < ($3 ->> 'minimum')::numeric
           WHEN $3 ? 'maximum' THEN vanguard.as_number(e.doc, $2) > ($3 ->> 'maximum')::numeric
           WHEN $3 ? 'scale' THEN min_scale(vanguard.as_number(e.doc, $2)) > ($3 ->> 'scale')::integer
           ELSE FALSE
       END;
