-- Change the mode of the system. $1 mode (text), $2 user, $3 at (timestamptz). Returns mode, where it was another.
UPDATE public.system AS s
   SET mode = $1, changed_by = $2, changed_at = $3
 WHERE s.mode <> $1
RETURNING s.mode;
