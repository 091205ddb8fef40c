-- A join is deprecated. $1 organization, $2 id (uuid), $3 reason, $4 user, $5 at (timestamptz now).
-- Returns child, child_fields, parent, parent_fields, version; nothing where it is accepted no more.
UPDATE public.dataset_join AS j
   SET state = 'deprecated', reason = $3, deprecated_by = $4, deprecated_at = $5
 WHERE j.organization_id = $1
   AND j.id = $2
   AND j.state = 'accepted'
RETURNING j.child, j.child_fields, j.parent, j.parent_fields, j.version;
