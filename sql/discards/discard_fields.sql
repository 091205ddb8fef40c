-- Take fields out of the caller's drafts. The caller holds locks 2 and 4 on these rows; the modifications are imaged
-- and swept afterwards.
-- $1 organization, $2 user, $3 version (bigint: the workspace's new revision), $4 keys (text[]), $5 at (timestamptz
-- now), $6 fields (text[]), $7 groups (jsonb atomic groups). Returns row_key of the drafts that had one of the fields.
UPDATE pfa.modification AS x
   SET delta = x.delta - $6::text[],
       draft_op = CASE WHEN x.draft_op = 'update' AND x.delta - $6::text[] = '{}' THEN NULL ELSE x.draft_op END,
       base = CASE WHEN x.draft_op = 'insert' THEN x.base - $6::text[]
                   -- The row was deleted: its base is the whole row, to insert again.
                   WHEN x.conflicts @> '[{"field": null}]' THEN x.base
                   ELSE vanguard.pick(x.base, vanguard.touched(x.delta - $6::text[], $7)) END,
       session_id = CASE WHEN x.draft_op = 'update' AND x.delta - $6::text[] = '{}' THEN NULL ELSE x.session_id END,
       version = $3, modified_at = $5
 WHERE x.organization_id = $1
   AND x.user_id = $2
   AND x.row_key = ANY ($4::text[])
   AND x.draft_op IN ('insert', 'update')
   AND x.delta ?| $6::text[]
RETURNING x.row_key;
