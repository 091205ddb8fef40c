-- With a dataset's last version go the records that were received for it, unless one was ever promoted: those go when
-- their time is over. $1 organization, $2 base (the dataset's name without a version). Returns nothing.
SELECT public.empty_received($1, $2);
