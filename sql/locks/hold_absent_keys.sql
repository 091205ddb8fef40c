-- Lock 3, exclusive: keys that the mirror does not have, by whoever freezes or inserts one.
-- $1 organization, $2 dataset.
SELECT pg_advisory_xact_lock(2, hashtext($1 || '/' || $2));
