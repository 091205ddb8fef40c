-- Put records aside that cannot become rows, each under the run and line that it came with. $1 organization,
-- $2 dataset, $3 run_id (uuid), $4 at (timestamptz now), $5 textual (boolean: whether all values are texts),
-- $6 ids (text[]), $7 lines (bigint[]), $8 raws (bytea[]: as received), $9 received (jsonb: [what was received]),
-- $10 reasons (jsonb: [[{code, field, message}]]), $11 seen (timestamptz[]: when each was received); one of each for a
-- record. Returns nothing.
INSERT INTO public.quarantine AS q
       (organization_id, dataset, row_key, reasons, received, run_id, first_seen_at, last_seen_at, line, raw, textual)
SELECT $1, $2, g.id, $10::jsonb -> (g.place - 1)::int, $9::jsonb -> (g.place - 1)::int, $3, g.seen, $4, g.line, g.raw,
       $5
  FROM unnest($6::text[], $7::bigint[], $8::bytea[], $11::timestamptz[]) WITH ORDINALITY
       AS g (id, line, raw, seen, place)
    ON CONFLICT (organization_id, dataset, row_key) DO UPDATE
   SET reasons = excluded.reasons, last_seen_at = excluded.last_seen_at;
