-- Where the value of each field of a row comes from, in the caller's view: the field's draft, else the last of the
-- caller's unfinished changes of it, else the newest entry of the row's history that has it.
-- $1 organization, $2 user, $3 key (of the row), $4 dataset, $5 reads_requests (boolean: whether the caller may read
-- all of the dataset's change requests, and not only their own and those that they approve).
-- Returns explain (text, a JSON object by field; of each what is known of source, revision, pulledIn, pulledAt,
-- draftedBy, draftedByName, draftedAt, commitId, committedAt, request, approvedBy, approvedByNames, mergedAt, mergedBy,
-- mergedByName, pushedAt).
--
-- What upstream gave to a pushed row is nobody's draft; what it had otherwise by then was pulled in by the push.
-- Plan: mirror and modification by their primary keys; history_row backwards, at most 1,000 entries, and once more for
-- those that are still seen; of each of those change_committed, the request's and its approvals' primary keys,
-- audit_commit, and sync_run_newest from the entry's time on.
WITH shown AS MATERIALIZED (
    SELECT coalesce(m.data, CASE WHEN x.conflicts IS NOT NULL AND x.draft_op <> 'insert' THEN x.base END, '{}')
           || coalesce(x.pending, '{}') || coalesce(x.delta, '{}') AS doc,
           coalesce(x.pending, '{}') AS pending, coalesce(x.delta, '{}') AS delta, x.modified_at
      FROM (SELECT) AS one
      LEFT JOIN pfa.mirror AS m ON m.organization_id = $1 AND m.row_key = $3
      LEFT JOIN pfa.modification AS x ON x.organization_id = $1 AND x.user_id = $2 AND x.row_key = $3
),
field AS MATERIALIZED (
    SELECT name,
           CASE WHEN s.delta ? name THEN 'draft' WHEN s.pending ? name THEN 'pending' ELSE 'mirror' END AS source
      FROM shown AS s
     CROSS JOIN LATERAL jsonb_object_keys(s.doc) AS name
),
-- What brought each value: a change under way, or an entry of the history.
sent AS (
    SELECT f.name, c.id
      FROM field AS f
     CROSS JOIN LATERAL (
               SELECT c.id
                 FROM pfa.change AS c
                WHERE c.organization_id = $1 AND c.row_key = $3 AND c.user_id = $2
                  AND c.state = ANY (vanguard.unfinished())
                  AND c.delta ? f.name
                ORDER BY c.id DESC
                LIMIT 1
           ) AS c
     WHERE f.source = 'pending'
),
newest AS (
    SELECT DISTINCT ON (name) name, h.revision
      FROM (
          SELECT h.revision, h.after
            FROM pfa.history AS h
           WHERE h.organization_id = $1 AND h.row_key = $3
           ORDER BY h.revision DESC
           LIMIT 1000
      ) AS h
     CROSS JOIN LATERAL jsonb_object_keys(coalesce(h.after, '{}')) AS name
     ORDER BY name, h.revision DESC
),
brought AS (
    SELECT f.name, n.revision
      FROM field AS f
      JOIN newest AS n ON n.name = f.name
     WHERE f.source = 'mirror'
),
-- Each of them once, with all that is known of it.
origin AS MATERIALIZED (
    SELECT c.id AS change_id, NULL::bigint AS revision, NULL AS source, NULL::timestamptz AS at, c.user_id AS actor,
           c.commit_id, c.change_request_id, c.delta
      FROM (SELECT DISTINCT s.id FROM sent AS s) AS s
     CROSS JOIN LATERAL (
               SELECT c.id, c.user_id, c.commit_id, c.change_request_id, c.delta
                 FROM pfa.change AS c
                WHERE c.organization_id = $1 AND c.id = s.id
                LIMIT 1
           ) AS c
    UNION ALL
    SELECT NULL, b.revision, h.source, h.at, h.actor, h.commit_id, c.change_request_id, c.delta
      FROM (SELECT DISTINCT b.revision FROM brought AS b) AS b
     CROSS JOIN LATERAL (
               SELECT h.source, h.at, h.actor, h.commit_id
                 FROM pfa.history AS h
                WHERE h.organization_id = $1 AND h.row_key = $3 AND h.revision = b.revision
                LIMIT 1
           ) AS h
      LEFT JOIN LATERAL (
               SELECT c.change_request_id, c.delta
                 FROM pfa.change AS c
                WHERE c.organization_id = $1 AND c.commit_id = h.commit_id AND c.row_key = $3
                LIMIT 1
           ) AS c ON TRUE
),
told AS MATERIALIZED (
    SELECT o.change_id, o.revision, o.source, o.at, o.actor, o.commit_id, o.delta, p.run_id,
           coalesce(a.at, CASE WHEN o.source IN ('commit', 'merge') THEN o.at END) AS committed_at,
           r.id AS request_id, r.title, r.merged_at, r.merged_by,
           (SELECT json_agg(v.approver ORDER BY v.at, v.approver)
              FROM public.approval AS v
             WHERE v.organization_id = $1 AND v.request_id = r.id AND v.iteration = r.iteration) AS approved_by,
           (SELECT json_agg(vanguard.name_of($1, v.approver) ORDER BY v.at, v.approver)
              FROM public.approval AS v
             WHERE v.organization_id = $1 AND v.request_id = r.id AND v.iteration = r.iteration) AS approved_by_names
      FROM origin AS o
      LEFT JOIN LATERAL (
               SELECT r.id, r.title, r.iteration, r.merged_at, r.merged_by
                 FROM public.change_request AS r
                WHERE r.organization_id = $1 AND r.id = o.change_request_id
                  AND ($5 OR r.author = $2 OR $2 = ANY (r.approvers))
                LIMIT 1
           ) AS r ON TRUE
      LEFT JOIN LATERAL (
               SELECT a.at
                 FROM public.audit AS a
                WHERE a.organization_id = $1 AND a.commit_id = o.commit_id
                  AND a.action IN ('commit', 'request.merged')
                ORDER BY a.at, a.id
                LIMIT 1
           ) AS a ON TRUE
      -- One pull runs at a time, so it is the last one that had begun by then.
      LEFT JOIN LATERAL (
               SELECT CASE WHEN p.finished_at < o.at THEN NULL ELSE p.id END AS run_id
                 FROM public.sync_run AS p
                WHERE p.organization_id = $1 AND p.dataset = $4 AND p.kind = 'pull'
                  AND p.requested_at <= o.at AND p.started_at <= o.at
                ORDER BY p.requested_at DESC, p.id
                LIMIT 1
           ) AS p ON o.source = 'pull'
)
SELECT coalesce(json_object_agg(f.name, json_strip_nulls(json_build_object(
           'source', f.source,
           'revision', t.revision,
           'pulledIn', t.run_id,
           'pulledAt', CASE WHEN t.source IN ('pull', 'push') AND t.commit_id IS NULL THEN vanguard.utc(t.at) END,
           'draftedBy', d.drafted_by,
           'draftedByName', vanguard.name_of($1, d.drafted_by),
           'draftedAt', CASE WHEN f.source = 'draft' THEN vanguard.utc(s.modified_at) END,
           'commitId', t.commit_id,
           'committedAt', vanguard.utc(t.committed_at),
           'request', CASE WHEN t.request_id IS NOT NULL
                           THEN json_build_object('id', t.request_id, 'title', t.title) END,
           'approvedBy', t.approved_by,
           'approvedByNames', t.approved_by_names,
           'mergedAt', vanguard.utc(t.merged_at),
           'mergedBy', t.merged_by,
           'mergedByName', vanguard.name_of($1, t.merged_by),
           'pushedAt', CASE WHEN t.source = 'push' AND t.commit_id IS NOT NULL THEN vanguard.utc(t.at) END))
           ORDER BY f.name COLLATE "C"), '{}')::text AS explain
  FROM field AS f
 CROSS JOIN shown AS s
  LEFT JOIN sent AS n ON n.name = f.name
  LEFT JOIN brought AS b ON b.name = f.name
  LEFT JOIN told AS t ON t.change_id = n.id OR t.revision = b.revision
 CROSS JOIN LATERAL (
           SELECT CASE WHEN f.source = 'draft' THEN $2
                       WHEN t.delta ? f.name OR t.delta IS NULL THEN t.actor END AS drafted_by
       ) AS d;
