-- Give the lock of take.sql back. $1 job (integer, as there), $2 organization, $3 dataset. Returns given.
SELECT pg_advisory_unlock($1, hashtext($2::text || '/' || $3::text)) AS given;
