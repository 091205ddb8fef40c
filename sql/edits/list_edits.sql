-- A page of the log of a session, the oldest edit first.
-- $1 organization, $2 user, $3 session (text), $4 after (bigint: only edits beyond this one), $5 limit (bigint).
-- Returns id, row_key, field, old_value, value, held, findings, client_ts, at (texts), state (of the edit's step; one
-- that came from another version without its step is done).
-- Plan: the primary key from the position on, the primary key of each step.
SELECT e.id, e.row_key, e.field, e.old_value, e.value, e.held, e.findings,
       vanguard.utc(e.client_ts) AS client_ts, vanguard.utc(e.at) AS at,
       coalesce(s.state, 'done') AS state
  FROM pfa.edit AS e
  LEFT JOIN LATERAL (
           SELECT s.state
             FROM pfa.step AS s
            WHERE s.organization_id = $1 AND s.user_id = $2 AND s.session_id = $3 AND s.number = e.step
            LIMIT 1
       ) AS s ON TRUE
 WHERE e.organization_id = $1
   AND e.session_id = $3
   AND e.id > $4
 ORDER BY e.id
 LIMIT $5;
