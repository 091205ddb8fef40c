-- Apply the changes of a commit to the mirror, write history, and finish them. The caller holds locks 1, 3 (exclusive) and
-- 4 on these rows. Whoever has modifications there is re-imaged afterwards, by statements of their own.
--
-- $1 organization, $2 uuid commit id, $3 bigint the dataset's new revision, $4 text[] row keys of the commit,
-- $5 text name of the key field, $6 text source of the change, $7 timestamptz now. Returns applied, the number of changes.
--
-- Plan: the mirror by its primary key for the given keys, never by a scan.
WITH due AS MATERIALIZED (
    SELECT c.id, c.row_key, c.user_id, c.op, c.change_reason,
           CASE c.op WHEN 'insert' THEN jsonb_build_object($5::text, c.row_key) || c.delta ELSE c.delta END AS delta
      FROM pfa.change AS c
     WHERE c.organization_id = $1
       AND c.commit_id = $2
       AND c.state = 'committed'
),
was AS MATERIALIZED (
    SELECT m.row_key, m.data
      FROM pfa.mirror AS m
     WHERE m.organization_id = $1
       AND m.row_key = ANY ($4::text[])
),
updated AS (
    UPDATE pfa.mirror AS m
       SET data = m.data || d.delta, version = m.version + 1, revision = $3, updated_at = $7
      FROM due AS d
     WHERE m.organization_id = $1
       AND m.row_key = ANY ($4::text[])
       AND m.row_key = d.row_key
       AND d.op = 'update'
),
inserted AS (
    INSERT INTO pfa.mirror (organization_id, row_key, data, version, revision, updated_at)
    SELECT $1, d.row_key, d.delta, 1, $3, $7
      FROM due AS d
     WHERE d.op = 'insert'
),
deleted AS (
    DELETE FROM pfa.mirror AS m
     USING due AS d
     WHERE m.organization_id = $1
       AND m.row_key = ANY ($4::text[])
       AND m.row_key = d.row_key
       AND d.op = 'delete'
),
recorded AS (
    INSERT INTO pfa.history (organization_id, revision, row_key, op, before, after, source, commit_id, actor, change_reason, at)
    SELECT $1, $3, d.row_key, d.op,
           CASE d.op
               WHEN 'delete' THEN w.data
               WHEN 'update' THEN vanguard.pick(w.data, (SELECT jsonb_agg(name) FROM jsonb_object_keys(d.delta) AS name))
           END,
           CASE WHEN d.op <> 'delete' THEN d.delta END,
           $6, $2, d.user_id, d.change_reason, $7
      FROM due AS d
      LEFT JOIN was AS w ON w.row_key = d.row_key
),
finished AS (
    UPDATE pfa.change AS c
       SET state = 'synced'
     WHERE c.organization_id = $1
       AND c.commit_id = $2
       AND c.state = 'committed'
    RETURNING c.id
)
SELECT count(*) AS applied FROM finished;
