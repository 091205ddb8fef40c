-- Changes that go to another version, in their order: what is told of them stays as it was, but for the names of
-- fields. $1 organization, $2 changes (jsonb: [{id, base, delta}]). Returns id (that each has now).
-- Plan: the primary key of changes.
WITH given AS (
    SELECT r.id, r.base, r.delta FROM jsonb_to_recordset($2::jsonb) AS r (id bigint, base jsonb, delta jsonb)
), taken AS (
    DELETE FROM pfa.change AS c
     USING given AS g
     WHERE c.organization_id = $1
       AND c.id = g.id
    RETURNING c.id, c.row_key, c.user_id, c.op, g.base, g.delta, c.state, c.commit_id, c.change_reason, c.created_at,
              c.attempts, c.settled_at, c.error_code, c.last_error, c.change_request_id
)
INSERT INTO /*{other}*/pfa/*{}*/.change AS n
       (organization_id, row_key, user_id, op, base, delta, state, commit_id, change_reason, created_at, attempts,
        settled_at, error_code, last_error, change_request_id)
SELECT $1, t.row_key, t.user_id, t.op, t.base, t.delta, t.state, t.commit_id, t.change_reason, t.created_at, t.attempts,
       t.settled_at, t.error_code, t.last_error, t.change_request_id
  FROM taken AS t
 ORDER BY t.id
RETURNING n.id;
