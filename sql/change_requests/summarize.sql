-- What a request's changes under review come to, as they are written down.
-- $1 organization, $2 request_id (uuid).
-- Returns content (text: a digest of all of it), rows_added, rows_updated, rows_deleted, cells_changed (bigint).
-- Plan: the request's changes by change_of_request, in the order of their rows.
SELECT encode(sha256(coalesce(string_agg(
           sha256(convert_to(jsonb_build_array(c.row_key, c.op, c.base, c.delta)::text, 'UTF8')), ''
           ORDER BY c.row_key), '')), 'hex') AS content,
       count(*) FILTER (WHERE c.op = 'insert') AS rows_added,
       count(*) FILTER (WHERE c.op = 'update') AS rows_updated,
       count(*) FILTER (WHERE c.op = 'delete') AS rows_deleted,
       coalesce(sum(cells.changed), 0)::bigint AS cells_changed
  FROM pfa.change AS c
 CROSS JOIN LATERAL (
           SELECT count(*) AS changed
             FROM jsonb_each(c.delta) AS field
            WHERE field.value <> coalesce(c.base -> field.key, 'null')
       ) AS cells
 WHERE c.organization_id = $1
   AND c.change_request_id = $2
   AND c.state = 'in_review';
