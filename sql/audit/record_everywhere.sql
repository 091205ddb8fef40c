-- Record an act that is of no organization alone, inside of the transaction that it is of: in each of these
-- organizations, or as one of the installation where there is none.
-- $1 organizations (text[]), $2 entries (jsonb: as audit/record_entries takes them), $3 address (text, or NULL).
-- Returns nothing.
-- All organizations: an account's own act is told in each that it belongs to.
INSERT INTO public.audit (organization_id, at, actor, action, reason, details, address)
SELECT o.id, e.at, e.actor, e.action, e.reason, e.details, $3::text
  FROM unnest(CASE WHEN cardinality($1::text[]) = 0 THEN ARRAY[''] ELSE $1 END) AS o (id)
 CROSS JOIN ROWS FROM (jsonb_to_recordset($2) AS (at timestamptz, actor text, action text, reason text, details jsonb))
       WITH ORDINALITY AS e
 ORDER BY o.id, e.ordinality;
