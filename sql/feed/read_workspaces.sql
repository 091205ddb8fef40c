-- How far the workspaces of some users are: what they are told of their own drafts.
-- $1 organization, $2 users (text[]). Returns user_id, dataset, revision.
-- Plan: workspace_of_user, once for each user.
SELECT w.user_id, w.dataset, w.revision
  FROM public.workspace AS w
 WHERE w.organization_id = $1
   AND w.user_id = ANY ($2::text[]);
