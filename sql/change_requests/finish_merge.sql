-- A merge has succeeded: merging -> merged. The caller holds the request's lock.
-- $1 organization, $2 id (uuid), $3 user (who merged), $4 at (timestamptz now), $5 commit_id (uuid), $6 revision
-- (bigint: the mirror's, or NULL until the changes reach it), $7 result (jsonb), $8 validation (jsonb).
-- Returns id; no row where it is in another state.
UPDATE public.change_request AS r
   SET state = 'merged', updated_at = $4, reason = NULL, merged_at = $4, merged_by = $3, commit_id = $5,
       merged_revision = $6, result = $7, validation = $8, conflicts = '[]'
 WHERE r.organization_id = $1
   AND r.id = $2
   AND r.state = 'merging'
RETURNING r.id;
