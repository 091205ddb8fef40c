-- The mode of the system, which stays until the transaction ends. No parameters. Returns mode.
SELECT s.mode FROM public.system AS s FOR SHARE OF s;
