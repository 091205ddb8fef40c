-- What a transaction is about to bring into the mirror: rows as upstream has them, data NULL for one that is gone
-- there. A temporary table of each connection that synchronizes, empty again after each transaction.
-- actor, commit_id, change_reason: of the change that a push settles; NULL for a pull.
-- event_at, processed_at, event_key: of the record that is ingested. No parameters.
CREATE TEMPORARY TABLE IF NOT EXISTS staged (
    row_key text COLLATE "C" PRIMARY KEY,
    data jsonb,
    actor text COLLATE "C",
    commit_id uuid,
    change_reason text,
    event_at timestamptz,
    processed_at timestamptz,
    event_key text COLLATE "C"
) ON COMMIT DELETE ROWS;
