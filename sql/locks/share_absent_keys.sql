-- Lock 3, shared: keys that the mirror does not have, by whoever drafts one.
-- $1 organization, $2 dataset.
SELECT pg_advisory_xact_lock_shared(2, hashtext($1 || '/' || $2));
