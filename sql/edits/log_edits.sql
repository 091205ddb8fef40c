-- Log edits of a session and count them; where no draft has, note their step and close what was undone before. The
-- caller holds lock 2 of the session's user.
-- $1 organization, $2 user, $3 session (text), $4 step (bigint: the workspace's new revision), $5 undo_group (text, or
-- NULL), $6 edits (jsonb: [{id: of the row, field, oldValue, value, held, findings, clientTs}]), $7 bytes (bigint: of
-- all that), $8 most (bigint: bytes that a session holds), $9 at (timestamptz now).
-- Returns first_id (bigint: of the edits, which follow it in their order); no row where the session would hold too
-- much.
WITH counted AS (
    UPDATE public.edit_session AS s
       SET edits = s.edits + jsonb_array_length($6::jsonb), staged = s.staged + $7
     WHERE s.organization_id = $1
       AND s.id = $3
       AND s.staged + $7 <= $8
    RETURNING s.id
),
logged AS (
    INSERT INTO pfa.edit (organization_id, session_id, user_id, step, row_key, field, old_value, value, held, findings,
                          client_ts, at)
    SELECT $1, $3, $2, $4, e.edit ->> 'id', e.edit ->> 'field', e.edit -> 'oldValue', e.edit -> 'value',
           (e.edit ->> 'held')::boolean, e.edit -> 'findings', (e.edit ->> 'clientTs')::timestamptz, $9
      FROM counted AS c
     CROSS JOIN jsonb_array_elements($6) WITH ORDINALITY AS e (edit, place)
     ORDER BY e.place
    RETURNING id
),
closed AS (
    UPDATE pfa.step AS s
       SET state = 'closed'
      FROM counted AS c
     WHERE s.organization_id = $1
       AND s.user_id = $2
       AND s.session_id = c.id
       AND s.state = 'undone'
),
noted AS (
    INSERT INTO pfa.step (organization_id, user_id, number, session_id, undo_group, rows, at)
    SELECT $1, $2, $4, $3, $5, '{}', $9
      FROM counted AS c
     WHERE NOT EXISTS (SELECT FROM pfa.step AS s
                        WHERE s.organization_id = $1 AND s.user_id = $2 AND s.session_id = $3 AND s.number = $4)
)
SELECT l.id AS first_id FROM logged AS l ORDER BY l.id LIMIT 1;
