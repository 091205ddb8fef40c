-- Lock 7, the last one, and what it is for: the organization's counter goes on, and what happened is appended with its
-- number, in the order of commits. A transaction ends with this statement: whoever waits for the counter waits for a
-- commit, and for nothing else.
--
-- $1 organization, $2 dataset, $3 at (timestamptz), $4 type (text), $5 revision (bigint: of the mirror, or NULL),
-- $6 actor (text: an account, or NULL), $7 row_count (bigint, or NULL), $8 keys (text[]: the rows, or NULL), $9 renamed
-- (jsonb: {temporary key: key}, or NULL), $10 details (jsonb), $11 request_id (uuid: of a change request, or NULL),
-- $12 session_id (text: of an edit session, or NULL).
-- Returns number.
--
-- What happened to a change request is for those who may read it, with the state that it has in the end; a session is
-- its owner's alone.
-- Plan: primary keys.
WITH counted AS (
    INSERT INTO public.feed_counter AS c (organization_id, number)
    VALUES ($1, 1)
    ON CONFLICT (organization_id) DO UPDATE SET number = c.number + 1
    RETURNING c.number
)
INSERT INTO public.feed AS f (organization_id, number, at, type, dataset, revision, actor, row_count, keys, renamed,
                              details, audience, for_admins)
SELECT $1, c.number, $3, $4, $2, $5, $6, $7, $8::text[], $9::jsonb,
       CASE WHEN r.id IS NOT NULL THEN $10::jsonb || jsonb_build_object('status', r.state)
            WHEN s.id IS NOT NULL THEN $10::jsonb || jsonb_build_object('status', s.state)
            ELSE $10::jsonb END,
       CASE WHEN r.id IS NOT NULL THEN r.author || r.approvers
            WHEN s.id IS NOT NULL THEN ARRAY[s.user_id] END,
       r.id IS NOT NULL
  FROM counted AS c
  LEFT JOIN public.change_request AS r ON r.organization_id = $1 AND r.id = $11::uuid
  LEFT JOIN public.edit_session AS s ON s.organization_id = $1 AND s.id = $12::text
RETURNING f.number;
