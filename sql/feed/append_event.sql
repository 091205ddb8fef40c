-- Lock 7, the last one, and what it is for: the organization's counter goes on, and what happened is appended with its
-- number, in the order of commits. A transaction ends with this statement: whoever waits for the counter waits for a
-- commit, and for nothing else.
--
-- $1 organization, $2 dataset, $3 at (timestamptz), $4 type (text), $5 revision (bigint: of the mirror, or NULL),
-- $6 actor (text: an account, or NULL), $7 row_count (bigint, or NULL), $8 keys (text[]: the rows, or NULL), $9 renamed
-- (jsonb: {temporary key: key}, or NULL), $10 details (jsonb), and $11 request_id (uuid: of a change request) or
-- $12 session_id (text: of an edit session), or neither: NULL.
-- Returns number.
--
-- What happened to a change request is for those who may read it, with the state that it has in the end; a session is
-- its owner's alone; what happens to a SHADOW version is for those who may see one.
-- Plan: primary keys; change requests and sessions are not looked at where nothing is about one.
WITH counted AS (
    INSERT INTO public.feed_counter AS c (organization_id, number)
    VALUES ($1, 1)
    ON CONFLICT (organization_id) DO UPDATE SET number = c.number + 1
    RETURNING c.number
), subject AS MATERIALIZED (
    SELECT r.state, r.author || r.approvers AS audience, TRUE AS for_admins, FALSE AS for_engineers
      FROM public.change_request AS r
     WHERE $11::uuid IS NOT NULL AND r.organization_id = $1 AND r.id = $11::uuid
     UNION ALL
    SELECT s.state, ARRAY[s.user_id], FALSE, FALSE
      FROM public.edit_session AS s
     WHERE $12::text IS NOT NULL AND s.organization_id = $1 AND s.id = $12::text
     UNION ALL
    -- One that is gone was in SHADOW: no other can be deleted.
    SELECT NULL, '{}', TRUE, TRUE
     WHERE $11::uuid IS NULL AND $12::text IS NULL
       AND coalesce((SELECT d.state
                       FROM public.dataset AS d
                      WHERE d.organization_id = $1 AND d.name = $2), 'SHADOW') = 'SHADOW'
)
INSERT INTO public.feed AS f (organization_id, number, at, type, dataset, revision, actor, row_count, keys, renamed,
                              details, audience, for_admins, for_engineers)
SELECT $1, c.number, $3, $4, $2, $5, $6, $7, $8::text[], $9::jsonb,
       CASE WHEN s.state IS NULL THEN $10::jsonb ELSE $10::jsonb || jsonb_build_object('status', s.state) END,
       s.audience, coalesce(s.for_admins, FALSE), coalesce(s.for_engineers, FALSE)
  FROM counted AS c
  LEFT JOIN subject AS s ON TRUE
RETURNING f.number;
