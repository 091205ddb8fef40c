-- Keep a report and its changes. $1 organization, $2 base (the dataset's name without a version), $3 id (uuid),
-- $4 report (jsonb: members as the columns of drift_report are called), $5 changes (jsonb[]: as those of drift_change,
-- in their order), $6 digest (bytea), $7 at (timestamptz now).
-- Returns id; nothing where the same drift of a pull or of records is being reported by somebody else just now.
WITH report AS (
    INSERT INTO public.drift_report (
        organization_id, id, dataset, version, source, state, severity, backward, forward, backward_all, forward_all,
        health, rows, run_id, digest, columns, schema, at, seen_at, created_by
    )
    SELECT $1, $3, $2, g.version, g.source, g.state, g.severity, g.backward, g.forward, g.backward_all, g.forward_all,
           g.health, g.rows, g.run_id, $6, g.columns, g.schema, $7, $7, g.created_by
      FROM jsonb_to_record($4) AS g (
               version text, source text, state text, severity text, backward boolean, forward boolean,
               backward_all boolean, forward_all boolean, health jsonb, rows bigint, run_id uuid, columns text[],
               schema text, created_by text
           )
        ON CONFLICT DO NOTHING
    RETURNING id
),
changes AS (
    INSERT INTO public.drift_change (
        organization_id, report_id, place, kind, path, field, was, now, old, new, severity, backward, forward, rule,
        remedy, confidence, evidence, uses, violations
    )
    SELECT $1, r.id, c.place, g.kind, g.path, g.field, g.was, g.now, g.old, g.new, g.severity, g.backward, g.forward,
           g.rule, g.remedy, g.confidence, g.evidence, g.uses, g.violations
      FROM report AS r
     CROSS JOIN unnest($5::jsonb[]) WITH ORDINALITY AS c (change, place)
     CROSS JOIN jsonb_to_record(c.change) AS g (
               kind text, path text, field text, was text, now text, old jsonb, new jsonb, severity text,
               backward boolean, forward boolean, rule text, remedy text, confidence numeric, evidence jsonb,
               uses jsonb, violations bigint
           )
)
SELECT r.id FROM report AS r;
