-- The database's incarnation, which cursors belong to. No parameters. Returns number.
SELECT i.number FROM public.incarnation AS i;
