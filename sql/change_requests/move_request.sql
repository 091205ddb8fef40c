-- A request goes from one state to another; the caller holds its lock.
-- $1 organization, $2 id (uuid), $3 was (text: the state that is expected), $4 state (text), $5 at (timestamptz now),
-- $6 reason (text: why it is there, or NULL).
-- Returns id; no row where it is in another state.
UPDATE public.change_request AS r
   SET state = $4, updated_at = $5, reason = $6,
       closed_at = CASE WHEN $4 = 'closed' THEN $5::timestamptz END
 WHERE r.organization_id = $1
   AND r.id = $2
   AND r.state = $3
RETURNING r.id;
