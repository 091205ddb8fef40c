-- The mode of the system. No parameters. Returns mode, changed_at, changed_by (the account's name, else its id).
SELECT s.mode, vanguard.utc(s.changed_at) AS changed_at,
       coalesce((SELECT a.name FROM public.account AS a WHERE a.id = s.changed_by), s.changed_by) AS changed_by
  FROM public.system AS s;
