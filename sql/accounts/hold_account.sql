-- An account that nobody removes until the transaction ends. $1 account (its id). Returns email, or no row.
SELECT a.email FROM public.account AS a WHERE a.id = $1 FOR KEY SHARE;
