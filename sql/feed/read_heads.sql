-- How far the feeds of organizations are: what the tailer looks at. Of several organizations, as a worker looks at what
-- is due.
-- $1 organizations (text[]). Returns organization_id, number (of the newest entry), epoch (the incarnation's number).
-- Plan: the primary key of a table with one row an organization.
SELECT c.organization_id, c.number, (SELECT i.number FROM public.incarnation AS i) AS epoch
  FROM public.feed_counter AS c
 WHERE c.organization_id = ANY ($1::text[]);
