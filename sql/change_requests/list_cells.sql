-- What a request changes, cell by cell: as it is under review, as it was merged, or as it was sent back.
-- $1 organization, $2 request_id (uuid), $3 commit_id (uuid, or NULL), $4 ended_at (timestamptz: when all of it was
-- sent back, or NULL), $5 from_key (text: only rows from this one on, '' for all).
-- Returns row_key, op, field (NULL: the whole row is deleted), old, new (text: JSON), in the order of rows and fields.
-- Plan: change_of_request, in its order.
SELECT c.row_key, c.op, cell.field, cell.old::text AS old, cell.new::text AS new
  FROM pfa.change AS c
 CROSS JOIN LATERAL (
           SELECT field.key AS field, coalesce(c.base -> field.key, 'null') AS old, field.value AS new
             FROM jsonb_each(c.delta) AS field
            WHERE c.op <> 'delete'
              AND field.value <> coalesce(c.base -> field.key, 'null')
           UNION ALL
           SELECT NULL, c.base, 'null'
            WHERE c.op = 'delete'
            ORDER BY 1
       ) AS cell
 WHERE c.organization_id = $1
   AND c.change_request_id = $2
   AND (c.state = 'in_review' OR c.commit_id = $3::uuid OR c.state = 'rejected' AND c.settled_at = $4::timestamptz)
   AND c.row_key >= $5
 ORDER BY c.row_key, cell.field COLLATE "C";
