-- What is remembered, by id. $1 organization, $2 dataset, $3 after (uuid: the last one of the page before, or NULL),
-- $4 limit (bigint).
-- Returns id, row_id, field, base, theirs, mine, use, value, actor, actor_name, at, used, used_at.
SELECT n.id, n.row_key AS row_id, n.field, n.base, n.theirs, n.mine, n.use, n.value, n.actor,
       vanguard.name_of($1, n.actor) AS actor_name, n.at, n.used, n.used_at
  FROM public.resolution AS n
 WHERE n.organization_id = $1
   AND n.dataset = $2
   AND ($3::uuid IS NULL OR n.id > $3)
 ORDER BY n.id
 LIMIT $4;
