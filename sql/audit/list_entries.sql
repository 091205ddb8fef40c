-- A page of an organization's audit, the newest entry first.
-- $1 organization, $2 dataset (its name without a version), $3 actor, $4 action, $5 key (of the row), $6 fields
-- (text[]: any of these), $7 request_id (uuid), $8 commit_id (uuid): each NULL where all are wanted; $9 since,
-- $10 until (timestamptz: from the one on, before the other; or NULL), $11 before, $12 before_id (timestamptz, bigint:
-- only entries that stand behind this position; the time NULL for all), $13 limit (bigint).
-- Returns incarnation (in one row at least, whose id may be NULL), id, position (timestamptz), at (text), actor,
-- actor_name, action, dataset, request_id, commit_id, row_key, field, reason, details, address.
--
-- app/audit.py puts into the marker once more what is given, for a plan that does not know of NULLs.
-- Plan: one index of the audit backwards from the position on: that of the commit, the request, the row, the actor or
-- the action where one is given, else audit_newest. Of the row, all entries are sorted: there are few.
SELECT i.number AS incarnation, e.id, e.at AS position, vanguard.utc(e.at) AS at, e.actor,
       vanguard.name_of($1, e.actor) AS actor_name, e.action, e.dataset, e.request_id, e.commit_id, e.row_key, e.field,
       e.reason, e.details, e.address
  FROM public.incarnation AS i
  LEFT JOIN LATERAL (
           SELECT a.id, a.at, a.actor, a.action, a.dataset, a.request_id, a.commit_id, a.row_key, a.field, a.reason,
                  a.details, a.address
             FROM public.audit AS a
            WHERE a.organization_id = $1
              AND /*{given}*/TRUE/*{}*/
              AND ($2::text IS NULL OR split_part(a.dataset, '@', 1) = $2)
              AND ($3::text IS NULL OR a.actor = $3)
              AND ($4::text IS NULL OR a.action = $4)
              AND ($5::text IS NULL OR a.row_key = $5)
              AND ($6::text[] IS NULL OR a.field = ANY ($6))
              AND ($7::uuid IS NULL OR a.request_id = $7)
              AND ($8::uuid IS NULL OR a.commit_id = $8)
              AND a.at >= coalesce($9::timestamptz, '-infinity')
              AND a.at < coalesce($10::timestamptz, 'infinity')
              AND (a.at, a.id) < (coalesce($11::timestamptz, 'infinity'), $12::bigint)
            ORDER BY a.at DESC, a.id DESC
            LIMIT $13
       ) AS e ON TRUE
 ORDER BY e.at DESC, e.id DESC;
