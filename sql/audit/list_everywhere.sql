-- The newest entries of the audit, of all organizations and of the installation: for its operators.
-- $1 organization ('': the installation), $2 actor, $3 action: each NULL where all are wanted; $4 since, $5 until
-- (timestamptz: from the one on, before the other; or NULL), $6 limit (bigint).
-- Returns organization, id, at (text), actor, actor_name (of a member), action, dataset, request_id, commit_id,
-- row_key, field, reason, details, address, the newest first.
-- All organizations: the operator's command line reads the audit of them and of the installation.
--
-- app/audit.py puts into the marker once more what is given, for a plan that does not know of NULLs.
-- Plan: for each organization one index of the audit backwards, no further than to the limit: that of the actor or the
-- action where one is given, else audit_newest.
SELECT o.id AS organization, e.id, vanguard.utc(e.at) AS at, e.actor, vanguard.name_of(o.id, e.actor) AS actor_name,
       e.action, e.dataset, e.request_id, e.commit_id, e.row_key, e.field, e.reason, e.details, e.address
  FROM (SELECT '' COLLATE "C" AS id UNION ALL SELECT o.id FROM public.organization AS o) AS o
 CROSS JOIN LATERAL (
           SELECT a.id, a.at, a.actor, a.action, a.dataset, a.request_id, a.commit_id, a.row_key, a.field, a.reason,
                  a.details, a.address
             FROM public.audit AS a
            WHERE a.organization_id = o.id
              AND /*{given}*/TRUE/*{}*/
              AND ($2::text IS NULL OR a.actor = $2)
              AND ($3::text IS NULL OR a.action = $3)
              AND a.at >= coalesce($4::timestamptz, '-infinity')
              AND a.at < coalesce($5::timestamptz, 'infinity')
            ORDER BY a.at DESC, a.id DESC
            LIMIT $6
       ) AS e
 WHERE $1::text IS NULL OR o.id = $1
 ORDER BY e.at DESC, e.id DESC
 LIMIT $6;
