-- How far the feeds of organizations are: what the tailer looks at. Of several organizations, as a worker looks at what
-- is due.
-- $1 organizations (text[]). Returns organization_id, number of each that has entries.
-- Plan: the primary key of a table with one row an organization.
SELECT c.organization_id, c.number
  FROM public.feed_counter AS c
 WHERE c.organization_id = ANY ($1::text[]);
