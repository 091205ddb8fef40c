-- Merge a request's changes: three-way check of every cell with the rows as they are now; what has something to do is
-- committed, in a new place of the outbox, what is there already is done. The caller holds the request's lock, 2, 3 and
-- 4, on a dataset without an upstream lock 1, too, and rolls back when a conflict comes out.
--
-- $1 organization, $2 request_id (uuid), $3 groups (jsonb atomic groups), $4 fields (text[]: those that the contract
-- has), $5 commit_id (uuid), $6 at (timestamptz now), $7 unruled_fields (text[]: the fields that no rule looks at),
-- $8 upstream_only (text[]: the fields that a new row cannot bring), $9 initial (jsonb: what upstream will derive of a
-- new row), $10 force (boolean: mine, whatever is there now).
-- Returns row_key, op (NULL: nothing to do), before, after (theirs and the result without the unruled fields, NULL for
-- no row), conflicts (text: JSON, or NULL), cells (bigint: how many differ), left_out (text[] or NULL: the fields that
-- had a value and that upstream cannot write, of a new row).
--
-- A change counts from the merge on: its id is a new one, so that it comes behind what was committed before, and its
-- base is theirs. Theirs is as in read_conflicts.
-- Plan: the request's changes by change_of_request, the mirror's primary key for each, the changes again by their
-- place.
WITH present AS MATERIALIZED (
    SELECT c.ctid AS place, c.row_key, c.op, c.base, c.delta, t.theirs,
           c.op = 'update' AND vanguard.unchanged(t.theirs, c.base) AS clear,
           -- A new row that is there by now: what it cannot bring is as upstream has it.
           CASE WHEN c.op = 'insert' AND t.theirs IS NOT NULL
                THEN c.delta - $8::text[] - ARRAY(SELECT jsonb_object_keys($9::jsonb)) ELSE c.delta END AS mine
      FROM pfa.change AS c
      LEFT JOIN LATERAL (
               SELECT m.data FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = c.row_key LIMIT 1
           ) AS m ON TRUE
     CROSS JOIN LATERAL (
               SELECT CASE WHEN pfa.in_outbox($1, c.row_key) THEN pfa.theirs($1, '', c.row_key, m.data)
                           ELSE m.data END AS theirs
               OFFSET 0
           ) AS t
     WHERE c.organization_id = $1
       AND c.change_request_id = $2
       AND c.state = 'in_review'
),
judged AS MATERIALIZED (
    SELECT p.*,
           CASE WHEN p.clear OR $10::boolean AND p.op <> 'delete' AND p.theirs IS NOT NULL
                THEN jsonb_build_object('op', 'update', 'conflicts', '[]'::jsonb, 'delta', (
                         SELECT coalesce(jsonb_object_agg(field.key, field.value), '{}')
                           FROM jsonb_each(p.mine) AS field
                          WHERE field.value <> coalesce(p.theirs -> field.key, 'null')))
                WHEN $10 AND p.op = 'delete' AND p.theirs IS NOT NULL
                THEN '{"op": "delete", "delta": {}, "conflicts": []}'
                WHEN $10 AND p.op = 'update'
                THEN jsonb_build_object('op', 'insert', 'delta', p.base || p.delta, 'conflicts', '[]'::jsonb)
                ELSE vanguard.judge(p.op, p.base, p.theirs, p.mine, $3) END AS verdict
      FROM present AS p
),
decided AS MATERIALIZED (
    SELECT j.place, j.row_key, j.theirs, j.base, j.clear,
           CASE WHEN j.verdict ->> 'op' = 'update' AND j.verdict -> 'delta' = '{}' THEN NULL
                ELSE j.verdict ->> 'op' END AS op,
           CASE WHEN j.verdict ->> 'op' = 'insert' THEN ((j.verdict -> 'delta') - $8::text[]) || $9::jsonb
                ELSE j.verdict -> 'delta' END AS delta,
           nullif(j.verdict -> 'conflicts' || vanguard.removed_fields(j.base, j.delta, $4), '[]') AS conflicts,
           CASE WHEN j.verdict ->> 'op' = 'insert' AND j.verdict -> 'delta' ?| $8
                THEN (SELECT array_agg(name ORDER BY name COLLATE "C")
                        FROM unnest($8) AS name
                       WHERE j.verdict -> 'delta' -> name <> 'null') END AS left_out
      FROM judged AS j
),
merged AS (
    UPDATE pfa.change AS c
       SET id = DEFAULT,
           state = CASE WHEN d.op IS NULL THEN 'synced' ELSE 'committed' END,
           settled_at = CASE WHEN d.op IS NULL THEN $6::timestamptz END,
           commit_id = $5,
           op = coalesce(d.op, c.op),
           delta = CASE WHEN d.op IS NULL THEN '{}' ELSE d.delta END,
           base = CASE WHEN d.op = 'update' THEN vanguard.pick(d.theirs, vanguard.touched(d.delta, $3))
                       WHEN d.op = 'delete' THEN d.theirs
                       ELSE '{}' END
      FROM decided AS d
     WHERE c.ctid = d.place
       AND c.state = 'in_review'
       AND d.conflicts IS NULL
)
SELECT d.row_key, d.op, d.conflicts::text AS conflicts, d.theirs - $7::text[] AS before,
       CASE WHEN d.op = 'delete' THEN NULL ELSE (coalesce(d.theirs, '{}') || d.delta) - $7::text[] END AS after,
       CASE WHEN d.op IN ('insert', 'update') THEN (SELECT count(*) FROM jsonb_object_keys(d.delta))
            ELSE 0 END AS cells,
       d.left_out
  FROM decided AS d
 ORDER BY d.row_key;
