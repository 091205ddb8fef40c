-- Where an organization's feed stands, and the caller's own workspaces, in one snapshot.
-- $1 organization, $2 user.
-- Returns epoch (the incarnation's number), number (of the newest entry), oldest (of the oldest that is kept; NULL
-- where none is), own (jsonb: {dataset: revision of the caller's workspace}).
-- Plan: primary keys, and workspace_of_user.
SELECT (SELECT i.number FROM public.incarnation AS i) AS epoch,
       coalesce((SELECT c.number FROM public.feed_counter AS c WHERE c.organization_id = $1), 0) AS number,
       (SELECT f.number FROM public.feed AS f WHERE f.organization_id = $1 ORDER BY f.number LIMIT 1) AS oldest,
       (SELECT coalesce(jsonb_object_agg(w.dataset, w.revision), '{}')
          FROM public.workspace AS w
         WHERE w.organization_id = $1 AND w.user_id = $2) AS own;
