-- Put failed changes back into the outbox, as if they had never been tried; whether a new row was sent stays known
-- (sent_at), and which rows a person was shown as like it (near). Locks 2 of these users and 4 of these rows are held;
-- fold_pending follows.
-- $1 organization, $2 value (what the selection compares, as in select_failed), $3 keys (text[]), $4 users (text[]).
-- Returns retried, how many.
WITH retried AS (
    UPDATE pfa.change AS c
       SET state = 'committed', attempts = 0, last_error = NULL, error_code = NULL, settled_at = NULL
     WHERE c.organization_id = $1
       AND c.state = ANY (vanguard.refused())
       AND c.row_key = ANY ($3::text[])
       AND c.user_id = ANY ($4::text[])
       AND /*{selection}*/c.id = ANY ($2::bigint[])/*{}*/
    RETURNING c.id
)
SELECT count(*) AS retried FROM retried;
