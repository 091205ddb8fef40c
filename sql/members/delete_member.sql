-- End a membership. $1 organization, $2 account (its id). Returns nothing.
DELETE FROM public.membership AS m WHERE m.organization_id = $1 AND m.account_id = $2;
