-- What became of changes that were pushed: syncing -> synced, conflict, sync_error, or committed again. Only those that
-- are still the caller's. Rows that may be a new one go behind those that were shown before. The caller holds locks 1,
-- 2, 3 and 4.
-- $1 organization, $2 claim (uuid: the caller's), $3 at (timestamptz now), $4 outcomes (jsonb: [{id, state, error,
-- code, near, kept, next_attempt_at, counted}], counted: whether the attempt counts against the change).
-- Returns id of each.
UPDATE pfa.change AS c
   SET state = o.state, last_error = CASE WHEN o.state <> 'synced' THEN coalesce(o.error, c.last_error) END,
       error_code = o.code, kept = o.kept,
       near = CASE WHEN o.state <> 'synced' THEN coalesce(c.near || o.near, o.near, c.near) END,
       next_attempt_at = o.next_attempt_at, claim_id = NULL, lease_until = NULL,
       attempts = c.attempts - CASE WHEN o.counted THEN 0 ELSE 1 END,
       settled_at = CASE WHEN o.state <> 'committed' THEN $3::timestamptz END
  FROM jsonb_to_recordset($4::jsonb)
    AS o (id bigint, state text, error text, code text, near jsonb, kept jsonb, next_attempt_at timestamptz,
          counted boolean)
 WHERE c.organization_id = $1
   AND c.id = o.id
   AND c.claim_id = $2
   AND c.state = 'syncing'
RETURNING c.id;
