-- Keep how somebody corrected a preview. $1 organization, $2 id (uuid), $3 user, $4 preview_id (uuid), $5 made_id
-- (uuid: the preview that came of it), $6 type, $7 correction (jsonb), $8 query (jsonb: what was corrected),
-- $9 sentence (text or NULL: as it was asked), $10 at. Returns nothing.
INSERT INTO public.query_correction
    (organization_id, id, user_id, preview_id, made_id, type, correction, query, sentence, at)
VALUES ($1, $2::uuid, $3, $4::uuid, $5::uuid, $6, $7::jsonb, $8::jsonb, $9::text, $10);
