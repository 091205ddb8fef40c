-- How long nothing of a kind can be forgotten, whatever a worker is set to. No parameters. Returns kind, days, by kind.
SELECT r.kind, r.days FROM public.retention AS r ORDER BY r.kind;
