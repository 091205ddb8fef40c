-- A session that may be edited lasts longer. The caller holds lock 2 of its user.
-- $1 organization, $2 id (text), $3 expires_at (timestamptz). Returns nothing.
UPDATE public.edit_session AS s
   SET expires_at = $3
 WHERE s.organization_id = $1
   AND s.id = $2
   AND s.state IN ('active', 'preview');
