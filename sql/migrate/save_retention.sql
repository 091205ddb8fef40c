-- How long nothing of a kind can be forgotten. Run by the owner.
-- $1 kinds (text[]), $2 days (integer[], in their order). Returns nothing.
INSERT INTO public.retention AS r (kind, days)
SELECT given.kind, given.days FROM unnest($1::text[], $2::integer[]) AS given (kind, days)
ON CONFLICT (kind) DO UPDATE SET days = excluded.days;
