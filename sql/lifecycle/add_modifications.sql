-- Modifications that come from another version, before they are imaged. Where there is one already, what comes is laid
-- over it: it was done later. A row that is brought again over its deletion is here still, so that the draft is an
-- update that takes away cells that the new row does not have. Without an id it is a new one, without a version it has
-- the workspace's, which the caller has raised. $1 organization, $2 dataset, $3 modifications (jsonb: [{user_id,
-- row_key, id, pending_op, pending, pending_state, draft_op, delta, base, version, session_id, change_reason,
-- modified_at}]). Returns row_key of each.
INSERT INTO pfa.modification AS x
       (organization_id, user_id, row_key, id, pending_op, pending, pending_state, draft_op, delta, base, version,
        leaves, lands, session_id, change_reason, modified_at)
SELECT $1, r.user_id, r.row_key, coalesce(r.id, gen_random_uuid()), r.pending_op, r.pending, r.pending_state,
       r.draft_op, r.delta, r.base,
       coalesce(r.version, (SELECT w.revision
                              FROM public.workspace AS w
                             WHERE w.organization_id = $1 AND w.dataset = $2 AND w.user_id = r.user_id)),
       FALSE, FALSE, r.session_id, r.change_reason, r.modified_at
  FROM jsonb_to_recordset($3::jsonb)
       AS r (user_id text, row_key text, id uuid, pending_op text, pending jsonb, pending_state text, draft_op text,
             delta jsonb, base jsonb, version bigint, session_id text, change_reason text, modified_at timestamptz)
    ON CONFLICT (organization_id, user_id, row_key) DO UPDATE
   SET pending_op = excluded.pending_op, pending = excluded.pending, pending_state = excluded.pending_state,
       draft_op = CASE WHEN excluded.draft_op IS NULL THEN x.draft_op
                       WHEN x.draft_op = 'insert' AND excluded.draft_op = 'update' THEN 'insert'
                       WHEN x.draft_op = 'delete' AND excluded.draft_op = 'insert' THEN 'update'
                       ELSE excluded.draft_op END,
       delta = CASE WHEN excluded.draft_op = 'delete' THEN '{}'
                    WHEN x.draft_op = 'delete' AND excluded.draft_op = 'insert'
                    THEN (SELECT coalesce(jsonb_object_agg(cell.key, cell.value), '{}')
                            FROM jsonb_each(vanguard.pick(excluded.delta,
                                     to_jsonb(ARRAY(SELECT jsonb_object_keys(x.base || excluded.delta))))) AS cell
                           WHERE x.base -> cell.key IS DISTINCT FROM cell.value)
                    ELSE x.delta || excluded.delta END,
       base = excluded.base || x.base, version = excluded.version,
       session_id = excluded.session_id, change_reason = coalesce(excluded.change_reason, x.change_reason),
       modified_at = excluded.modified_at
RETURNING x.row_key;
