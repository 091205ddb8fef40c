-- What was accepted as a major version that is deleted is to be decided again; what was mapped stays so. Reports about
-- the deleted version itself stay as they are.
-- $1 organization, $2 base (the dataset's name without a version), $3 major (text).
-- Returns id, severity of each.
WITH reopened AS (
    UPDATE public.drift_report AS r
       SET state = 'open', decided_by = NULL, decided_at = NULL, made_version = NULL
     WHERE r.organization_id = $1
       AND r.dataset = $2
       AND r.state = 'accepted'
       AND split_part(r.made_version, '.', 1) = $3
       AND split_part(r.version, '.', 1) <> $3
    RETURNING r.id, r.severity
), undecided AS (
    UPDATE public.drift_change AS c
       SET decision = NULL
      FROM reopened AS o
     WHERE c.organization_id = $1
       AND c.report_id = o.id
       AND c.decision = 'accepted'
)
SELECT o.id, o.severity FROM reopened AS o;
