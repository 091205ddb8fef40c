-- Lock 6: the values that a contract wants unique, by whoever gives some to rows: taken when the changes are written,
-- before it is read whether other rows have these values. $1 organization, $2 dataset.
SELECT pg_advisory_xact_lock(3, hashtext($1 || '/' || $2));
