-- A request is submitted again, as its session is now. The caller holds its lock and lock 2 of its author.
-- $1 organization, $2 id (uuid), $3 title, $4 description, $5 approvers (text[]), $6 base_revision (bigint).
-- Returns nothing.
UPDATE public.change_request AS r
   SET title = $3, description = $4, approvers = $5, base_revision = $6
 WHERE r.organization_id = $1
   AND r.id = $2;
