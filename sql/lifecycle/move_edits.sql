-- The logs of cell edits of sessions that are not over, to another version; those of fields that it does not have stay,
-- and what was undone: steps do not go along, and without its step an edit counts.
-- $1 organization, $2 base (the plain name, by which sessions go), $3 names (jsonb: {name: name there}).
-- Returns moved (how many).
WITH taken AS (
    DELETE FROM pfa.edit AS e
     USING public.edit_session AS s
     WHERE e.organization_id = $1
       AND s.organization_id = $1
       AND s.dataset = $2
       AND s.id = e.session_id
       AND s.state IN ('active', 'preview', 'submitted')
       AND $3::jsonb ? e.field
       AND NOT EXISTS (SELECT FROM pfa.step AS t
                        WHERE t.organization_id = $1 AND t.user_id = e.user_id AND t.session_id = e.session_id
                          AND t.number = e.step AND t.state <> 'done')
    RETURNING e.id, e.session_id, e.user_id, e.step, e.row_key, $3::jsonb ->> e.field AS field, e.old_value, e.value,
              e.held, e.findings, e.client_ts, e.at
), added AS (
    INSERT INTO /*{other}*/pfa/*{}*/.edit
           (organization_id, session_id, user_id, step, row_key, field, old_value, value, held, findings, client_ts, at)
    SELECT $1, t.session_id, t.user_id, t.step, t.row_key, t.field, t.old_value, t.value, t.held, t.findings,
           t.client_ts, t.at
      FROM taken AS t
     ORDER BY t.id
)
SELECT count(*) AS moved FROM taken;
