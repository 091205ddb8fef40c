-- Put rows that break the contract aside, with the reasons. Those that are there stay, as they are received now.
-- $1 organization, $2 dataset, $3 run_id (uuid), $4 at (timestamptz now), $5 rows (jsonb, each id once: [{id, reasons,
-- received}]).
INSERT INTO public.quarantine AS q
       (organization_id, dataset, row_key, reasons, received, run_id, first_seen_at, last_seen_at)
SELECT $1, $2, r.id, r.reasons, r.received, $3, $4, $4
  FROM jsonb_to_recordset($5::jsonb) AS r (id text, reasons jsonb, received jsonb)
    ON CONFLICT (organization_id, dataset, row_key) DO UPDATE
   SET reasons = excluded.reasons, received = excluded.received, run_id = excluded.run_id,
       last_seen_at = excluded.last_seen_at;
