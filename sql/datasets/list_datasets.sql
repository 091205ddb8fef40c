-- The datasets of an organization, by name. $1 organization, $2 hidden (text[]: states that are not wanted).
-- Returns name (the address), base, title (NULL for a built-in one), contract_version, state, owner, owner_name,
-- supersedes (int), deprecated_at, revision.
SELECT d.name, d.base,
       (SELECT c.document::json ->> 'title'
          FROM public.contract AS c
         WHERE c.organization_id = $1 AND c.schema_name = d.schema_name
         ORDER BY c.minor DESC
         LIMIT 1) AS title,
       d.contract_version, d.state, d.owner, vanguard.name_of($1, d.owner) AS owner_name, d.supersedes,
       vanguard.utc(d.deprecated_at) AS deprecated_at, d.revision
  FROM public.dataset AS d
 WHERE d.organization_id = $1
   AND d.state <> ALL ($2::text[])
 ORDER BY d.name;
