-- Two versions exchange their places: the one beside takes the plain name, and the one in use the name with its
-- number. What belongs to the name stays with it: settings, workspaces, sessions, change requests, runs. What belongs
-- to the schema goes with that. Both revisions go on beyond what either has reached. The caller holds lock 1 against
-- everybody. $1 organization, $2 base (the plain name), $3 beside (the other's address), $4 used (the new state of the
-- one that takes the plain name), $5 left (that of the other), $6 at (timestamptz), $7 promoted (boolean: whether this
-- is a promotion, which can be undone). Returns name, major, revision of both. What was never promoted is superseded by
-- nothing, and what was out of use already has been so since then.
UPDATE public.dataset AS d
   SET name = CASE WHEN d.name = $2 THEN $2 ELSE $2 || '@' || o.major END,
       contract_version = o.contract_version, major = o.major, schema_name = o.schema_name, owner = o.owner,
       unrecorded = o.unrecorded, kpi_revision = o.kpi_revision,
       revision = greatest(d.revision, o.revision) + 1,
       state = CASE WHEN d.name = $2 THEN $4 ELSE $5 END,
       promoted_at = CASE WHEN d.name = $2 AND $7 THEN $6::timestamptz END,
       deprecated_at = CASE WHEN CASE WHEN d.name = $2 THEN $4 ELSE $5 END = 'DEPRECATED'
                            THEN coalesce(o.deprecated_at, $6::timestamptz) END,
       supersedes = CASE WHEN d.name = $2 AND $7 AND $5 <> 'SHADOW' THEN d.major
                         WHEN d.name <> $2 AND $5 = 'SHADOW' THEN NULL ELSE o.supersedes END
  FROM public.dataset AS o
 WHERE d.organization_id = $1
   AND o.organization_id = $1
   AND (d.name, o.name) IN (($2, $3), ($3, $2))
RETURNING d.name, d.major, d.revision;
