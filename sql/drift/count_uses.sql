-- Who has something unfinished in fields. $1 organization, $2 dataset, $3 fields (text[]).
-- Returns field, drafts (rows of all people with an uncommitted value), sessions (open ones with such a row), requests
-- (those that are neither merged nor closed), changes (committed ones that have not reached the mirror), joins
-- (accepted ones, by either side).
WITH drafts AS (
    SELECT f.field, count(*) AS rows, count(DISTINCT m.session_id) FILTER (WHERE s.id IS NOT NULL) AS sessions
      FROM pfa.modification AS m
      LEFT JOIN public.edit_session AS s
        ON s.organization_id = $1 AND s.dataset = $2 AND s.id = m.session_id
       AND s.state IN ('active', 'preview', 'submitted')
     CROSS JOIN unnest($3::text[]) AS f (field)
     WHERE m.organization_id = $1
       AND m.draft_op IS NOT NULL
       AND m.delta ? f.field
     GROUP BY f.field
),
changes AS (
    SELECT f.field,
           count(*) FILTER (WHERE c.state <> 'in_review') AS rows,
           count(DISTINCT c.change_request_id) FILTER (WHERE c.state = 'in_review') AS requests
      FROM pfa.change AS c
     CROSS JOIN unnest($3::text[]) AS f (field)
     WHERE c.organization_id = $1
       AND c.state = ANY (vanguard.unfinished())
       AND c.delta ? f.field
     GROUP BY f.field
),
joins AS (
    SELECT f.field, count(*) AS rows
      FROM public.dataset_join AS j
     CROSS JOIN unnest($3::text[]) AS f (field)
     WHERE j.organization_id = $1
       AND j.state = 'accepted'
       AND (j.child = split_part($2, '@', 1) AND f.field = ANY (j.child_fields)
            OR j.parent = split_part($2, '@', 1) AND f.field = ANY (j.parent_fields))
     GROUP BY f.field
)
SELECT f.field, coalesce(d.rows, 0) AS drafts, coalesce(d.sessions, 0) AS sessions,
       coalesce(c.requests, 0) AS requests, coalesce(c.rows, 0) AS changes,
       coalesce(j.rows, 0) AS joins
  FROM unnest($3::text[]) AS f (field)
  LEFT JOIN drafts AS d ON d.field = f.field
  LEFT JOIN changes AS c ON c.field = f.field
  LEFT JOIN joins AS j ON j.field = f.field;
