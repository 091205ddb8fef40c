-- How many joins are accepted, and what there is of some fields. The organization is locked.
-- $1 organization, $2 child, $3 child_fields (text[]), $4 parent, $5 parent_fields (text[]).
-- Returns accepted (of the organization), same (uuid: the accepted one of these fields, or NULL), version (the last one
-- of these fields, 0 where there is none).
SELECT (SELECT count(*)
          FROM public.dataset_join AS a
         WHERE a.organization_id = $1 AND a.state = 'accepted') AS accepted,
       (SELECT s.id
          FROM public.dataset_join AS s
         WHERE s.organization_id = $1 AND s.child = $2 AND s.child_fields = $3::text[] AND s.parent = $4
           AND s.parent_fields = $5::text[] AND s.state = 'accepted') AS same,
       coalesce((SELECT max(v.version)
                   FROM public.dataset_join AS v
                  WHERE v.organization_id = $1 AND v.child = $2 AND v.child_fields = $3::text[] AND v.parent = $4
                    AND v.parent_fields = $5::text[]), 0) AS version;
