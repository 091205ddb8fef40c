-- What a change has to write, upstream being as it is: nothing (done), some fields (write), or it cannot (conflict).
-- $1 op, $2 base (jsonb), $3 delta (jsonb), $4 document (jsonb: upstream's row, its editable fields at least, NULL
-- where there is none), $5 groups (jsonb atomic groups), $6 organization, $7 change_id (bigint), $8 claim (uuid: the
-- caller's).
-- Returns verdict, fields; no row where the change is not the caller's any more. Of one that is to be written that is
-- noted (written): from here on upstream may have it.
--
-- | op | upstream | verdict |
-- | update | the cells as in base, or as wanted | write those that differ, or done |
-- | update | a cell otherwise, or no row | conflict |
-- | delete | no row; as in base; otherwise | done; write; conflict |
-- | insert | no row; the same values; others | write; done; conflict |
WITH judged AS MATERIALIZED (
    SELECT CASE
               WHEN $4::jsonb IS NULL
                   THEN CASE $1 WHEN 'insert' THEN 'write' WHEN 'delete' THEN 'done' ELSE 'conflict' END
               WHEN $1 = 'delete'
                   THEN CASE WHEN vanguard.pick($2, k.names) = vanguard.pick($4, k.names) THEN 'write'
                             ELSE 'conflict' END
               WHEN w.cells -> 'conflicts' <> '[]' THEN 'conflict'
               WHEN w.cells -> 'apply' <> '{}' THEN 'write'
               ELSE 'done'
           END AS verdict,
           CASE
               WHEN $4::jsonb IS NULL AND $1 = 'insert' THEN $3::jsonb
               WHEN $1 = 'delete' THEN '{}'
               ELSE coalesce(w.cells -> 'apply', '{}')
           END AS fields
      FROM (SELECT jsonb_agg(name) AS names FROM jsonb_object_keys($4::jsonb) AS name) AS k
     CROSS JOIN (
               SELECT CASE WHEN $4::jsonb IS NOT NULL AND $1::text <> 'delete'
                           THEN vanguard.three_way(CASE $1 WHEN 'insert' THEN '{}' ELSE $2::jsonb END, $4, $3,
                                                   $5::jsonb)
                      END AS cells
           ) AS w
     WHERE EXISTS (SELECT FROM pfa.change AS c
                    WHERE c.organization_id = $6 AND c.id = $7 AND c.claim_id = $8 AND c.state = 'syncing')
),
noted AS (
    UPDATE pfa.change AS c
       SET written = TRUE
      FROM judged AS j
     WHERE j.verdict = 'write'
       AND c.organization_id = $6
       AND c.id = $7
)
SELECT j.verdict, j.fields FROM judged AS j;
