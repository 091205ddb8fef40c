-- A version goes from one state to another where it is. The caller holds lock 1 against everybody.
-- $1 organization, $2 dataset (its address), $3 from_state, $4 to_state, $5 at (timestamptz), $6 promoted (boolean:
-- whether this is a promotion, which can be undone), $7 supersedes (int: a major version, or NULL).
-- Returns revision; no row where it is in another state.
UPDATE public.dataset AS d
   SET state = $4, revision = d.revision + 1,
       promoted_at = CASE WHEN $6 THEN $5::timestamptz END,
       deprecated_at = CASE WHEN $4 = 'DEPRECATED' THEN $5::timestamptz END,
       supersedes = CASE WHEN $6 THEN $7::int ELSE d.supersedes END
 WHERE d.organization_id = $1
   AND d.name = $2
   AND d.state = $3
RETURNING d.revision;
