-- An execution begins. $1 organization, $2 id (uuid), $3 user, $4 preview_id (uuid), $5 query (jsonb), $6 sentence
-- (text or NULL), $7 digest (bytea), $8 format, $9 joins (uuid[]), $10 cost (double precision), $11 estimated_rows
-- (bigint), $12 override_reason (text or NULL), $13 at. Returns nothing.
INSERT INTO public.query_execution
    (organization_id, id, user_id, preview_id, query, sentence, digest, format, joins, cost, estimated_rows,
     override_reason, at)
VALUES ($1, $2::uuid, $3, $4::uuid, $5::jsonb, $6::text, $7::bytea, $8, $9::uuid[], $10::double precision, $11::bigint,
        $12::text, $13);
