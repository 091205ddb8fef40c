-- Lock 2 of several users, in the order of their ids: for whoever changes modifications of others.
-- $1 organization, $2 dataset, $3 users (text[]).
INSERT INTO public.workspace AS w (organization_id, dataset, user_id, revision)
SELECT $1, $2, given.user_id, (SELECT i.number FROM public.incarnation AS i) + 1
  FROM (SELECT DISTINCT name COLLATE "C" AS user_id FROM unnest($3::text[]) AS name) AS given
 ORDER BY given.user_id
ON CONFLICT (organization_id, dataset, user_id) DO UPDATE SET revision = w.revision + 1;
