-- A session goes from one state to another; the caller holds lock 2 of its user. What runs out is decided anew.
-- $1 organization, $2 id (text), $3 was (text: the state that is expected), $4 state (text), $5 at (timestamptz now),
-- $6 digest (text: of the preview that it goes to, else NULL), $7 run_id (uuid: the same).
-- Returns id; no row where it is in another state.
UPDATE public.edit_session AS s
   SET state = $4,
       ended_at = CASE WHEN $4 IN ('aborted', 'expired') THEN $5::timestamptz END,
       digest = $6,
       run_id = $7
 WHERE s.organization_id = $1
   AND s.id = $2
   AND s.state = $3
RETURNING s.id;
