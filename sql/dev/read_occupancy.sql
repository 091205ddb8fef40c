-- What stands in the way of a seed, and whether the mirror's indexes can go while it loads: asked by the owner of the
-- database, under locks 1 and 3.
-- $1 organization. Returns occupied: the organization has rows or drafts; empty: no organization has any row.
-- All organizations: `empty` says whether an index of all of them can go, to the owner of a development database.
-- Plan: the first entry of a primary key, three times.
SELECT EXISTS (SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1)
       OR EXISTS (SELECT FROM pfa.modification AS d WHERE d.organization_id = $1) AS occupied,
       NOT EXISTS (SELECT FROM pfa.mirror) AS empty;
