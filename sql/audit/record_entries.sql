-- Record acts, inside of the transaction that they are of.
-- $1 organization ('': the installation), $2 dataset (text, or NULL: of the whole organization), $3 entries (jsonb:
-- [{at, actor, action, request_id, commit_id, row_key, field, reason, details}], in their order), $4 address (text:
-- of the client, or NULL). Returns nothing.
INSERT INTO public.audit (organization_id, at, actor, action, dataset, request_id, commit_id, row_key, field, reason,
                          details, address)
SELECT $1, e.at, e.actor, e.action, $2::text, e.request_id, e.commit_id, e.row_key, e.field, e.reason, e.details,
       $4::text
  FROM ROWS FROM (jsonb_to_recordset($3) AS (at timestamptz, actor text, action text, request_id uuid, commit_id uuid,
                                             row_key text, field text, reason text, details jsonb))
       WITH ORDINALITY AS e
 ORDER BY e.ordinality;
