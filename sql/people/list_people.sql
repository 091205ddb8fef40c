-- A page of the people of an organization, by name, and those of one name by id.
-- $1 organization, $2 after, $3 after_id (text: only people behind this name and id; both empty for the first page),
-- $4 limit (bigint).
-- Returns incarnation (in one row at least, whose id may be NULL), id, name.
-- Plan: the organization's memberships by their primary key, each account by its own (LIMIT: however many accounts the
-- planner expects, those of others are not read), and the first of them sorted.
SELECT i.number AS incarnation, p.id, p.name
  FROM public.incarnation AS i
  LEFT JOIN LATERAL (
           SELECT a.id, a.name
             FROM public.membership AS m
            CROSS JOIN LATERAL (
                      SELECT a.id, a.name FROM public.account AS a WHERE a.id = m.account_id LIMIT 1
                  ) AS a
            WHERE m.organization_id = $1
              AND (a.name COLLATE "C", a.id) > ($2::text COLLATE "C", $3::text COLLATE "C")
            ORDER BY a.name COLLATE "C", a.id
            LIMIT $4
       ) AS p ON TRUE
 ORDER BY p.name COLLATE "C", p.id;
