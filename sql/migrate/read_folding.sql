-- By what this server folds text: the comment of vanguard.fold. No parameters. Returns folding.
SELECT obj_description('vanguard.fold(text)'::regprocedure, 'pg_proc') AS folding;
