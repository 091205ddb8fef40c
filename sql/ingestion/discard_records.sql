-- Put records in quarantine away, with a reason; who did it first stays. $1 organization, $2 dataset, $3 ids (text[]),
-- $4 user, $5 reason, $6 at (timestamptz). Returns row_key of each.
UPDATE public.quarantine AS q
   SET discarded_at = $6, discarded_by = $4, discard_reason = $5
 WHERE q.organization_id = $1
   AND q.dataset = $2
   AND q.row_key = ANY ($3::text[])
   AND q.discarded_at IS NULL
RETURNING q.row_key;
