-- A page of the caller's view: mirror || pending || delta, filtered, sorted and counted on merged values.
--
-- $1 organization, $2 dataset, $3 user, $4 offset (bigint), $5 limit (bigint: the page size), then what the markers
-- need (app/engine/page.py places them).
-- Returns one row: revision, workspace_revision, incarnation (for the next cursor), feed_number (of the feed's newest
-- entry), body (bytea, the page's rows as a
-- JSON array), keys (text[], of these rows; NULL when not asked), reached (how many of offset + limit + 1 rows there
-- are), last_key and last_values (text[], for the next cursor; NULL where the page is not full), base_count (mirror
-- rows that pass the filter, NULL when not asked), left_count and landed_count (the caller's covering modifications:
-- how many of them the mirror's count has too much, and too little). No row: no such dataset.
--
-- Arm one walks the mirror in sort order without the rows that the caller's modifications cover; arm two walks those
-- modifications in the same order by their after-image. Both yield keys; documents are fetched for the page alone.
-- Where deleted rows are wanted, a third arm walks the modifications that take rows away, by what lies beneath them.
-- Everything comes from one snapshot.
--
-- direct is arm one where an index ascends in this order: a short walk with the documents at hand, beside the caller's
-- modifications in the order of their before-image, so that nothing is looked up row by row. It leaves the row out
-- (NULL) where a modification is merged in place. walk tells what became of it: ended before the page was full; and
-- cut, when it may have stopped at its limit, for drafts took so many rows away. Then arm one begins anew with keys
-- alone, from indexes alone.
-- Where there is no such index, nothing reads direct, and arm one probes the covering modifications row by row.
-- Plan: merge anti-joins of equally ordered indexes, the second of them never executed but after a cut; Merge Append of
-- the arms; primary keys for drafted rows; for an exact total one pass over the caller's covering modifications.
WITH standing AS (
    SELECT d.revision,
           coalesce((SELECT w.revision
                       FROM public.workspace AS w
                      WHERE w.organization_id = $1 AND w.dataset = $2 AND w.user_id = $3), 0) AS workspace_revision
      FROM pfa.dataset AS d
     WHERE d.organization_id = $1
       AND d.name = $2
),
covering AS MATERIALIZED (
    SELECT /*{left}*/x.leaves/*{}*/ AS left_filter,
           /*{landed}*/x.lands/*{}*/ AS landed_filter
      FROM pfa.modification AS x/*{covering_join}*//*{}*/
     WHERE x.organization_id = $1
       AND x.user_id = $3
       AND /*{covers}*/(x.leaves OR x.lands)/*{}*/
),
direct AS MATERIALIZED (
    SELECT /*{walked_columns}*/m.s1, m.row_key/*{}*/,
           CASE WHEN x.row_key IS NULL THEN
               concat('{"id":', to_json(m.row_key), ',"data":', /*{walked_document}*/m.data/*{}*/,
                      ',"syncState":"pristine","version":0,"mirrorVersion":', m.version,
                      ',"modifiedFields":[],"modifiedAt":null,"modifiedBy":null,"modifiedByName":null',
                      ',"conflicts":[]',
                      /*{mirror_members}*/NULL/*{}*/, '}')
           END AS row
      FROM (
               SELECT /*{mirror_columns}*/m.f_forecast_start AS s1, m.row_key/*{}*/, m.data, m.version
                      /*{mirror_more}*//*{}*/
                 FROM pfa.mirror AS m
                WHERE /*{walked}*/m.organization_id = $1 AND m.f_forecast_start IS NOT NULL/*{}*/
                ORDER BY /*{order}*/s1, row_key/*{}*/
                LIMIT /*{walk}*/505/*{}*/
           ) AS m
      LEFT JOIN pfa.modification AS x
             ON x.organization_id = $1 AND x.user_id = $3 AND NOT x.leaves
            AND /*{same}*/x.b_forecast_start = m.s1 AND x.row_key = m.row_key/*{}*/
     WHERE NOT EXISTS (SELECT FROM pfa.modification AS x
                        WHERE x.organization_id = $1 AND x.user_id = $3 AND x.leaves
                          AND /*{same}*/x.b_forecast_start = m.s1 AND x.row_key = m.row_key/*{}*/)
     ORDER BY /*{order}*/s1, row_key/*{}*/
     LIMIT $5::bigint + 1
),
walk AS MATERIALIZED (
    SELECT count(*) <= $5::bigint AS ended,
           count(*) <= $5::bigint
           AND count(*) + (SELECT count(*)
                             FROM (SELECT FROM pfa.modification AS x
                                    WHERE x.organization_id = $1 AND x.user_id = $3 AND x.leaves
                                    LIMIT /*{walk}*/505/*{}*/) AS l) >= /*{walk}*/505/*{}*/ AS cut
      FROM direct
),
keys AS MATERIALIZED (
    SELECT arm.*
      FROM (
    /*{keys}*/
    (SELECT d.s1, d.row_key, d.row
       FROM direct AS d
      WHERE NOT (SELECT w.cut FROM walk AS w))
    UNION ALL
    (SELECT m.f_forecast_start AS s1, m.row_key, NULL AS row
       FROM pfa.mirror AS m
      WHERE m.organization_id = $1
        AND m.f_forecast_start IS NOT NULL
        AND (SELECT w.cut FROM walk AS w)
        AND NOT EXISTS (SELECT FROM pfa.modification AS x
                         WHERE x.organization_id = $1 AND x.user_id = $3 AND x.leaves
                           AND x.b_forecast_start = m.f_forecast_start AND x.row_key = m.row_key)
      ORDER BY s1, row_key LIMIT 101)
    UNION ALL
    (SELECT m.f_forecast_start AS s1, m.row_key, NULL AS row
       FROM pfa.mirror AS m
      WHERE m.organization_id = $1
        AND m.f_forecast_start IS NULL
        AND (SELECT w.ended FROM walk AS w)
        AND m.row_key NOT IN (SELECT x.row_key FROM pfa.modification AS x
                               WHERE x.organization_id = $1 AND x.user_id = $3 AND x.leaves
                                 AND x.b_forecast_start IS NULL)
      ORDER BY s1, row_key LIMIT 101)
    UNION ALL
    (SELECT x.a_forecast_start AS s1, x.row_key, NULL AS row
       FROM pfa.modification AS x
      WHERE x.organization_id = $1 AND x.user_id = $3 AND x.lands
      ORDER BY s1, row_key LIMIT 101)
    /*{}*/
      ) AS arm
     ORDER BY /*{order}*/s1, row_key/*{}*/
     LIMIT $4::bigint + $5::bigint + 1
),
page AS (
    SELECT k.*
      FROM keys AS k
     ORDER BY /*{order}*/s1, row_key/*{}*/
    OFFSET $4::bigint
     LIMIT $5::bigint
),
rendered AS (
    SELECT p.*,
           coalesce(p.row, concat(
               '{"id":', to_json(p.row_key),
               ',"data":', /*{document}*/d.doc/*{}*/,
               CASE WHEN x.row_key IS NULL THEN
                   concat(',"syncState":"pristine","version":0,"mirrorVersion":', m.version,
                          ',"modifiedFields":[],"modifiedAt":null,"modifiedBy":null,"modifiedByName":null',
                          ',"conflicts":[]',
                          /*{mirror_members}*/NULL/*{}*/)
               ELSE
                   concat(',"syncState":', to_json(x.sync_state), ',"version":', x.version,
                          ',"mirrorVersion":', coalesce(m.version, 0),
                          ',"modifiedFields":', (SELECT coalesce(json_agg(name ORDER BY name COLLATE "C"), '[]')
                                                   FROM jsonb_object_keys(x.pending || x.delta) AS name),
                          ',"modifiedAt":', to_json(vanguard.utc(x.modified_at)), ',"modifiedBy":', to_json($3::text),
                          ',"modifiedByName":', (SELECT coalesce(to_json(vanguard.name_of($1, $3))::text, 'null')),
                          ',"conflicts":', coalesce(x.conflicts, '[]'), /*{modification_members}*/NULL/*{}*/)
               END,
               /*{overlap}*/NULL/*{}*/,
               '}')) AS body
      FROM page AS p
      LEFT JOIN LATERAL (
               SELECT m.data, m.version/*{mirror_more}*//*{}*/
                 FROM pfa.mirror AS m
                WHERE m.organization_id = $1 AND m.row_key = p.row_key AND p.row IS NULL
                LIMIT 1
           ) AS m ON TRUE
      LEFT JOIN LATERAL (
               SELECT x.row_key, x.pending, x.delta, x.sync_state, x.version, x.modified_at, x.conflicts
                      /*{modification_more}*//*{}*/
                 FROM pfa.modification AS x
                WHERE x.organization_id = $1 AND x.user_id = $3 AND x.row_key = p.row_key AND p.row IS NULL
                LIMIT 1
           ) AS x ON TRUE
     CROSS JOIN LATERAL (
               SELECT CASE WHEN x.row_key IS NULL THEN m.data
                           ELSE coalesce(m.data, /*{absent}*/'{}'/*{}*/) || x.pending || x.delta END AS doc
               OFFSET 0
           ) AS d
)
SELECT s.revision, s.workspace_revision, (SELECT i.number FROM public.incarnation AS i) AS incarnation,
       (SELECT c.number FROM public.feed_counter AS c WHERE c.organization_id = $1) AS feed_number,
       convert_to(coalesce('[' || (SELECT string_agg(r.body, ',' ORDER BY /*{order}*/s1, row_key/*{}*/)
                                     FROM rendered AS r) || ']', '[]'), 'UTF8') AS body,
       /*{page_keys}*/NULL::text[]/*{}*/ AS keys,
       (SELECT count(*) FROM keys) AS reached,
       l.row_key AS last_key,
       ARRAY[/*{sort_values}*/l.s1::text/*{}*/]::text[] AS last_values,
       /*{base_count}*/(SELECT count(*) FROM pfa.mirror AS m WHERE m.organization_id = $1)/*{}*/ AS base_count,
       /*{left_count}*/(SELECT count(*) FROM covering AS c WHERE c.left_filter)/*{}*/ AS left_count,
       /*{landed_count}*/(SELECT count(*) FROM covering AS c WHERE c.landed_filter)/*{}*/ AS landed_count
  FROM standing AS s
  LEFT JOIN (SELECT k.*
               FROM keys AS k
              ORDER BY /*{order}*/s1, row_key/*{}*/
             OFFSET $4::bigint + $5::bigint - 1
              LIMIT 1) AS l ON TRUE;
