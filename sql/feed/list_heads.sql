-- How far the feeds of organizations are, for the operator of the installation.
-- $1 organizations (text[], or NULL for all).
-- Returns organization_id, number (of the newest entry, 0 before the first), oldest (of the oldest that is kept; NULL
-- where none is), epoch (the incarnation's number), by organization.
-- All organizations: the operator watches how far each feed is.
-- Plan: primary keys; one index entry of the feed for each organization.
SELECT o.id AS organization_id, coalesce(c.number, 0) AS number,
       (SELECT f.number FROM public.feed AS f WHERE f.organization_id = o.id ORDER BY f.number LIMIT 1) AS oldest,
       (SELECT i.number FROM public.incarnation AS i) AS epoch
  FROM public.organization AS o
  LEFT JOIN public.feed_counter AS c ON c.organization_id = o.id
 WHERE $1::text[] IS NULL OR o.id = ANY ($1::text[])
 ORDER BY o.id;
