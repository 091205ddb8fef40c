-- Note the keys that a full pull has seen. $1 organization, $2 keys (text[]).
INSERT INTO pfa.pulled (organization_id, row_key)
SELECT $1, key
  FROM unnest($2::text[]) AS key
    ON CONFLICT DO NOTHING;
