-- What was put into cells of a session and no document can hold: the last value of each cell that was refused, neither
-- undone nor followed by one that the draft holds. In the order of rows and fields.
-- $1 organization, $2 user, $3 session_id (text), $4 longest (integer: bytes of a value that is shown).
-- Returns row_key, field, value (text: JSON, NULL where it is longer), fingerprint (text: of any value).
-- Plan: the session's refused edits by edit_refused; for each the later ones of its cell by edit_cell, and its step.
SELECT e.row_key, e.field, CASE WHEN octet_length(e.value::text) <= $4::integer THEN e.value::text END AS value,
       md5(e.value::text) AS fingerprint
  FROM pfa.edit AS e
 WHERE e.organization_id = $1
   AND e.session_id = $3
   AND NOT e.held
   AND NOT EXISTS (SELECT FROM pfa.step AS s
                    WHERE s.organization_id = $1 AND s.user_id = $2 AND s.session_id = $3
                      AND s.number = e.step AND s.state <> 'done'
                   OFFSET 0)
   AND NOT EXISTS (SELECT FROM pfa.edit AS later
                    WHERE later.organization_id = $1 AND later.session_id = $3 AND later.row_key = e.row_key
                      AND later.field = e.field AND later.id > e.id
                      AND NOT EXISTS (SELECT FROM pfa.step AS s
                                       WHERE s.organization_id = $1 AND s.user_id = $2 AND s.session_id = $3
                                         AND s.number = later.step
                                         AND s.state <> 'done'
                                      OFFSET 0)
                   OFFSET 0)
 ORDER BY e.row_key, e.field;
