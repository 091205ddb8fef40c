-- Every organization, for the operator of the installation. No parameters.
-- Returns id, name, managed (its identity provider alone says who belongs to it), provider (whose tokens count there,
-- or NULL), members, by id.
-- All organizations: the operator's list of them, of the command line.
SELECT o.id, o.name, o.managed_by_identity_provider AS managed, o.identity_provider AS provider,
       count(m.account_id) AS members
  FROM public.organization AS o
  LEFT JOIN public.membership AS m ON m.organization_id = o.id
 GROUP BY o.id
 ORDER BY o.id;
