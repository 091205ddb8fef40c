-- How many addresses are invited beside this one; run it under the organization's lock.
-- $1 organization, $2 email (as it is stored). Returns the count.
SELECT count(*) FROM public.invitation AS i WHERE i.organization_id = $1 AND i.email <> $2;
