-- What the versions of a dataset went through, the newest first, at most a thousand.
-- $1 organization, $2 base (the dataset's name without a version).
-- Returns major, version, action, from_state, to_state, actor (an account's id), name (of that member, or NULL),
-- reason, at, undone_at.
SELECT t.major, t.version, t.action, t.from_state, t.to_state, t.actor,
       vanguard.name_of($1, t.actor) AS name,
       t.reason, vanguard.utc(t.at) AS at, vanguard.utc(t.undone_at) AS undone_at
  FROM public.dataset_transition AS t
 WHERE t.organization_id = $1
   AND t.dataset = $2
 ORDER BY t.id DESC
 LIMIT 1000;
