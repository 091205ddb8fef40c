-- The relations of one dataset, without the columns and indexes that its contract declares: app/contracts/ddl.py adds
-- those. Loaded by `vanguard migrate` at every run; everything here can run twice.

CREATE SCHEMA IF NOT EXISTS pfa;

-- Baseline rows, as last pulled or confirmed.
CREATE TABLE IF NOT EXISTS pfa.mirror (
    organization_id text COLLATE "C" NOT NULL,
    row_key text COLLATE "C" NOT NULL,
    data jsonb NOT NULL CHECK (jsonb_typeof(data) = 'object'),
    version bigint NOT NULL DEFAULT 1,
    revision bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, row_key)
) WITH (
    toast_tuple_target = 4080,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02
);

-- event_at, processed_at: of the record that a row was last ingested of; event_key: where records are appended, what
-- they are about. NULL where nothing is ingested.
ALTER TABLE pfa.mirror
    ADD COLUMN IF NOT EXISTS event_at timestamptz,
    ADD COLUMN IF NOT EXISTS processed_at timestamptz,
    ADD COLUMN IF NOT EXISTS event_key text COLLATE "C";

-- The mirror as reports see it: its parent, which has no rows of its own. Who reads this is held by its policies, and
-- who reads the mirror by none: beneath a policy, even one that is TRUE, the planner has no statistics for a search.
CREATE TABLE IF NOT EXISTS pfa.report (
    organization_id text COLLATE "C" NOT NULL,
    row_key text COLLATE "C" NOT NULL,
    data jsonb NOT NULL,
    version bigint NOT NULL,
    revision bigint NOT NULL,
    updated_at timestamptz NOT NULL
);
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = 'pfa.mirror'::regclass) THEN
        ALTER TABLE pfa.mirror INHERIT pfa.report;
    END IF;
END
$$;

-- One user's layer over one row: pending || delta over the mirror.
-- leaves: the mirror has the row and a page's first arm skips it; lands: the merged row exists and its second arm
-- yields it; reworded: neither, but its search text differs, so that a search treats it as both.
-- base: the touched fields as they were when touched (for a deletion, the whole row).
CREATE TABLE IF NOT EXISTS pfa.modification (
    organization_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    row_key text COLLATE "C" NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    pending_op text CHECK (pending_op IN ('insert', 'update', 'delete')),
    pending jsonb NOT NULL DEFAULT '{}',
    pending_state text CHECK (pending_state IN ('in_review', 'committed', 'syncing', 'conflict', 'sync_error')),
    draft_op text CHECK (draft_op IN ('insert', 'update', 'delete')),
    delta jsonb NOT NULL DEFAULT '{}',
    base jsonb NOT NULL DEFAULT '{}',
    conflicts jsonb,
    mirror_version bigint,
    version bigint NOT NULL,
    leaves boolean NOT NULL,
    lands boolean NOT NULL,
    reworded boolean NOT NULL DEFAULT FALSE,
    session_id text,
    change_reason text,
    modified_at timestamptz NOT NULL,
    sync_state text NOT NULL GENERATED ALWAYS AS (
        CASE
            WHEN conflicts IS NOT NULL OR pending_state = 'conflict' THEN 'conflict'
            WHEN pending_state = 'sync_error' THEN 'sync_error'
            WHEN draft_op IS NOT NULL THEN 'draft'
            ELSE coalesce(pending_state, 'draft')
        END
    ) STORED,
    a_search text COLLATE "C",
    PRIMARY KEY (organization_id, user_id, row_key),
    CHECK ((pending_op IS NULL) = (pending_state IS NULL))
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02
);

-- deletes: the user takes the row away, by a draft or by a change on its way; a list shows it where that is asked for.
-- It is generated, and stays what it is when a commit freezes the draft, so that no index is written then.
ALTER TABLE pfa.modification
    ADD COLUMN IF NOT EXISTS deletes boolean NOT NULL
        GENERATED ALWAYS AS (coalesce(draft_op, pending_op, '') = 'delete') STORED;
CREATE INDEX IF NOT EXISTS modification_deletes ON pfa.modification (organization_id, user_id, row_key) WHERE deletes;

-- Everybody's modifications of rows that the mirror changes.
-- With the user, so that it serves whom it is chosen for.
DROP INDEX IF EXISTS pfa.modification_row;
CREATE INDEX IF NOT EXISTS modification_everybody ON pfa.modification (organization_id, row_key, user_id);
-- What covers its row: a page's first arm skips it, its second arm yields it, here in the order of ids.
CREATE INDEX IF NOT EXISTS modification_covering ON pfa.modification (organization_id, user_id, row_key)
    INCLUDE (leaves, lands) WHERE leaves OR lands;
-- Half of each page is left free: a commit writes each of its modifications again, beside what it was, and no column of
-- an index changes by that, so that no index is written. That is why none may be of draft_op or pending_op.
DROP INDEX IF EXISTS pfa.modification_empty;
ALTER TABLE pfa.modification SET (fillfactor = 50);

-- What one request changed in a user's drafts, for undo and redo. number: the workspace's revision of the request, as
-- the drafts' version; session_id: of a session that was open, '' outside of any; rows: in the order in which they were
-- changed; closed: neither undone nor redone any more, for something else came after it.
CREATE TABLE IF NOT EXISTS pfa.step (
    organization_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    session_id text COLLATE "C" NOT NULL DEFAULT '',
    undo_group text COLLATE "C",
    state text NOT NULL DEFAULT 'done' CHECK (state IN ('done', 'undone', 'closed')),
    rows vanguard.stepped_row[] NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, user_id, session_id, number)
);
-- What is undone next; what is redone next, and closed by a save, of however many steps.
CREATE INDEX IF NOT EXISTS step_done ON pfa.step (organization_id, user_id, session_id, number) WHERE state = 'done';
CREATE INDEX IF NOT EXISTS step_undone ON pfa.step (organization_id, user_id, session_id, number)
    WHERE state = 'undone';
-- Not compressed: docs/decisions.md has the figures.
ALTER TABLE pfa.step ALTER COLUMN rows SET STORAGE EXTERNAL;

-- The log of a session's cell edits, those included that no document can hold. findings: what was wrong with the value;
-- held: whether the value went into the draft.
CREATE TABLE IF NOT EXISTS pfa.edit (
    organization_id text COLLATE "C" NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    session_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    step bigint NOT NULL,
    row_key text COLLATE "C" NOT NULL,
    field text COLLATE "C" NOT NULL,
    old_value jsonb,
    value jsonb,
    held boolean NOT NULL,
    findings jsonb NOT NULL DEFAULT '[]',
    client_ts timestamptz,
    at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, session_id, id)
);
-- The values that went into no draft, which a preview tells.
CREATE INDEX IF NOT EXISTS edit_refused ON pfa.edit (organization_id, session_id, row_key, field, id) WHERE NOT held;
-- What came after them in the same cell.
CREATE INDEX IF NOT EXISTS edit_cell ON pfa.edit (organization_id, session_id, row_key, field, id);

-- Frozen row changes on their way: under review, in the outbox, or finished.
CREATE TABLE IF NOT EXISTS pfa.change (
    organization_id text COLLATE "C" NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    row_key text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    op text NOT NULL CHECK (op IN ('insert', 'update', 'delete')),
    base jsonb NOT NULL,
    delta jsonb NOT NULL,
    state text NOT NULL
        CHECK (state IN ('in_review', 'committed', 'syncing', 'conflict', 'sync_error', 'synced', 'rejected',
                         'discarded')),
    commit_id uuid,
    change_reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id)
);

-- The unfinished changes of a row, in order.
CREATE INDEX IF NOT EXISTS change_unfinished ON pfa.change (organization_id, row_key, id)
    WHERE state IN ('in_review', 'committed', 'syncing', 'conflict', 'sync_error');
-- The changes of one commit, by row. Partial, so that no lookup by row takes it where there are no statistics.
DROP INDEX IF EXISTS pfa.change_commit, pfa.change_of_commit;
CREATE INDEX IF NOT EXISTS change_committed ON pfa.change (organization_id, commit_id, row_key)
    WHERE commit_id IS NOT NULL;

-- How the push of a change goes. claim_id: whose it is; lease_until: and until when; sent_at: a new row without a key
-- was sent then, and may be there; temporary_key: what it was called before upstream gave it its key; written: another
-- change was sent, and may be there; error_code: why it waits for a person; near: rows like a new one whose answer was
-- lost; kept: what upstream made of what was sent.
ALTER TABLE pfa.change
    ADD COLUMN IF NOT EXISTS attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS claim_id uuid,
    ADD COLUMN IF NOT EXISTS lease_until timestamptz,
    ADD COLUMN IF NOT EXISTS next_attempt_at timestamptz,
    ADD COLUMN IF NOT EXISTS sent_at timestamptz,
    ADD COLUMN IF NOT EXISTS last_error text,
    ADD COLUMN IF NOT EXISTS settled_at timestamptz,
    ADD COLUMN IF NOT EXISTS temporary_key text COLLATE "C",
    ADD COLUMN IF NOT EXISTS written boolean NOT NULL DEFAULT FALSE,
    ADD COLUMN IF NOT EXISTS error_code text,
    ADD COLUMN IF NOT EXISTS near jsonb,
    ADD COLUMN IF NOT EXISTS kept jsonb;
-- change_request_id: the request that the change is, or was, under review with.
ALTER TABLE pfa.change ADD COLUMN IF NOT EXISTS change_request_id uuid;
-- The changes of a request, by row.
CREATE INDEX IF NOT EXISTS change_of_request ON pfa.change (organization_id, change_request_id, row_key)
    WHERE change_request_id IS NOT NULL;
-- Changes of which upstream made something else, of a row.
CREATE INDEX IF NOT EXISTS change_kept ON pfa.change (organization_id, row_key, id) WHERE kept IS NOT NULL;
-- The outbox, in order.
CREATE INDEX IF NOT EXISTS change_outbox ON pfa.change (organization_id, id) WHERE state IN ('committed', 'syncing');
-- New rows without a key that were sent and may be there.
CREATE INDEX IF NOT EXISTS change_sent ON pfa.change (organization_id)
    WHERE sent_at IS NOT NULL AND state IN ('committed', 'syncing');
-- What waits for a person.
CREATE INDEX IF NOT EXISTS change_failed ON pfa.change (organization_id, id) WHERE state IN ('conflict', 'sync_error');
-- What is over, by age.
CREATE INDEX IF NOT EXISTS change_settled ON pfa.change (organization_id, settled_at)
    WHERE state IN ('synced', 'rejected', 'discarded', 'conflict', 'sync_error');

-- What holds for every change. Settled is what ended, and what was refused, since when: a failure is told by that time.
-- All at once, for that takes one pass over the table; rows of before are brought in line first.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint
                    WHERE conrelid = 'pfa.change'::regclass AND conname = 'change_settled_at_check') THEN
        UPDATE pfa.change AS c
           SET settled_at = CASE WHEN c.state = ANY (vanguard.ended() || vanguard.refused())
                                 THEN coalesce(c.settled_at, c.created_at) END,
               claim_id = CASE WHEN c.state = 'syncing' THEN coalesce(c.claim_id, gen_random_uuid()) END,
               lease_until = CASE WHEN c.state = 'syncing' THEN coalesce(c.lease_until, c.created_at) END,
               next_attempt_at = CASE WHEN c.state = 'committed' THEN c.next_attempt_at END
         WHERE (c.settled_at IS NOT NULL) <> (c.state = ANY (vanguard.ended() || vanguard.refused()))
            OR (c.claim_id IS NOT NULL) <> (c.state = 'syncing')
            OR (c.lease_until IS NOT NULL) <> (c.state = 'syncing')
            OR c.next_attempt_at IS NOT NULL AND c.state <> 'committed';
        ALTER TABLE pfa.change
            ADD CONSTRAINT change_settled_at_check CHECK (
                (settled_at IS NOT NULL) = (state IN ('synced', 'rejected', 'discarded', 'conflict', 'sync_error'))),
            ADD CONSTRAINT change_claim_check CHECK (
                (claim_id IS NOT NULL) = (state = 'syncing') AND (lease_until IS NOT NULL) = (state = 'syncing')),
            ADD CONSTRAINT change_next_attempt_at_check CHECK (next_attempt_at IS NULL OR state = 'committed'),
            ADD CONSTRAINT change_attempts_check CHECK (attempts >= 0),
            ADD CONSTRAINT change_sent_at_check CHECK (sent_at IS NULL OR op = 'insert'),
            ADD CONSTRAINT change_temporary_key_check CHECK (
                temporary_key IS NULL OR op = 'insert' AND state = 'synced');
    END IF;
END
$$;

-- The keys that upstream gave to new rows.
CREATE INDEX IF NOT EXISTS change_assigned ON pfa.change (organization_id, row_key) WHERE temporary_key IS NOT NULL;

-- The keys that a full pull has seen so far: what it did not see is gone upstream.
CREATE TABLE IF NOT EXISTS pfa.pulled (
    organization_id text COLLATE "C" NOT NULL,
    row_key text COLLATE "C" NOT NULL,
    PRIMARY KEY (organization_id, row_key)
);

-- What happened to the mirror: changed fields of an update, the whole row of an insert or a deletion. Append-only.
CREATE TABLE IF NOT EXISTS pfa.history (
    organization_id text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    row_key text COLLATE "C" NOT NULL,
    op text NOT NULL CHECK (op IN ('insert', 'update', 'delete')),
    before jsonb,
    after jsonb,
    source text NOT NULL,
    commit_id uuid,
    actor text COLLATE "C",
    change_reason text,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, revision, row_key)
);
CREATE INDEX IF NOT EXISTS history_row ON pfa.history (organization_id, row_key, revision);

-- Theirs, for a user and a row: the mirror with every committed change in flight and that user's own pending folded in.
-- NULL where there is no row. Called only for rows with unfinished changes; without them it is the mirror's document.
CREATE OR REPLACE FUNCTION pfa.theirs(organization text, caller text, key text, document jsonb) RETURNS jsonb
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT vanguard.layers(layer.op, layer.delta ORDER BY layer.id)
      FROM (
          SELECT 0::bigint AS id, 'insert' AS op, document AS delta WHERE document IS NOT NULL
          UNION ALL
          SELECT c.id, c.op, c.delta
            FROM pfa.change AS c
           WHERE c.organization_id = theirs.organization
             AND c.row_key = theirs.key
             AND c.state = ANY (vanguard.unfinished())
             AND (c.state = ANY (vanguard.outbox()) OR c.user_id = theirs.caller)
      ) AS layer;
END;

-- Whether a row has unfinished changes: the cheap question before pfa.theirs.
CREATE OR REPLACE FUNCTION pfa.in_flight(organization text, key text) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN EXISTS (
        SELECT FROM pfa.change AS c
         WHERE c.organization_id = in_flight.organization
           AND c.row_key = in_flight.key
           AND c.state = ANY (vanguard.unfinished()));

-- Whether somebody has a committed change of a row on its way: the cheap question before pfa.theirs of nobody.
CREATE OR REPLACE FUNCTION pfa.in_outbox(organization text, key text) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN EXISTS (
        SELECT FROM pfa.change AS c
         WHERE c.organization_id = in_outbox.organization
           AND c.row_key = in_outbox.key
           AND c.state = ANY (vanguard.unfinished())
           AND c.state = ANY (vanguard.outbox()));

-- Whether a change waits for an earlier one of its row: one on its way or refused, or the author's under review, which
-- its own base has folded in. What a request has merged lies on no review: its author is NULL.
CREATE OR REPLACE FUNCTION pfa.waits(organization text, key text, author text, change_id bigint) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN EXISTS (
        SELECT FROM pfa.change AS c
         WHERE c.organization_id = waits.organization
           AND c.row_key = waits.key
           AND c.id < waits.change_id
           AND c.state = ANY (vanguard.unfinished())
           AND (c.state <> 'in_review' OR c.user_id = waits.author));

-- The row that a draft lies on although it is gone, or on its way out, as the draft's author has it: the mirror's, with
-- the author's pending over it. A row that the mirror never had is as its deletion found it.
CREATE OR REPLACE FUNCTION pfa.beneath(organization text, key text, document jsonb, pending jsonb) RETURNS jsonb
    LANGUAGE sql STABLE
    RETURN coalesce(
        document,
        (SELECT c.base
           FROM pfa.change AS c
          WHERE c.organization_id = beneath.organization
            AND c.row_key = beneath.key
            AND c.op = 'delete'
            AND c.state = ANY (vanguard.unfinished())
          ORDER BY c.id DESC
          LIMIT 1),
        '{}') || pending;

-- What stands in the way of a user's changes of a row that upstream had otherwise: their conflicts with the document
-- that the mirror has now. cells: as in vanguard.touched.
CREATE OR REPLACE FUNCTION pfa.refused(organization text, caller text, key text, document jsonb, cells jsonb)
    RETURNS jsonb
    LANGUAGE sql STABLE
    RETURN (
        SELECT coalesce(jsonb_agg(conflict ORDER BY c.id), '[]')
          FROM pfa.change AS c
         CROSS JOIN LATERAL jsonb_array_elements(
                        CASE
                            WHEN c.op = 'delete' AND document IS NOT NULL
                                THEN jsonb_build_array(jsonb_build_object(
                                         'id', key, 'field', NULL, 'base', c.base, 'theirs', document, 'mine', NULL))
                            WHEN c.op = 'delete' THEN '[]'
                            WHEN document IS NOT NULL THEN vanguard.conflicts(key, c.base, document, c.delta, cells)
                            WHEN c.op = 'update'
                                THEN jsonb_build_array(jsonb_build_object(
                                         'id', key, 'field', NULL, 'base', c.base, 'theirs', NULL,
                                         'mine', c.base || c.delta))
                            ELSE '[]'
                        END) AS conflict
         WHERE c.organization_id = refused.organization
           AND c.row_key = refused.key
           AND c.user_id = refused.caller
           AND c.state = 'conflict');

GRANT USAGE ON SCHEMA pfa TO vanguard_app;
GRANT USAGE ON SCHEMA pfa TO vanguard_read;
GRANT SELECT, INSERT, UPDATE, DELETE ON pfa.mirror, pfa.modification, pfa.change, pfa.step TO vanguard_app;
GRANT SELECT, INSERT, DELETE ON pfa.pulled, pfa.edit TO vanguard_app;
REVOKE UPDATE ON pfa.pulled, pfa.edit FROM vanguard_app;
GRANT SELECT, INSERT ON pfa.history TO vanguard_app;
-- Reports see one organization's rows and what happened to them, and nobody's drafts.
GRANT SELECT ON pfa.report, pfa.change, pfa.history TO vanguard_read;
DO $$
DECLARE
    relation regclass;
BEGIN
    FOREACH relation IN ARRAY ARRAY['pfa.report', 'pfa.change', 'pfa.history']::regclass[] LOOP
        IF NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = relation AND p.polname = 'service') THEN
            EXECUTE format('CREATE POLICY service ON %s TO vanguard_app USING (TRUE) WITH CHECK (TRUE)', relation);
        END IF;
        IF NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = relation AND p.polname = 'reader') THEN
            EXECUTE format('CREATE POLICY reader ON %s FOR SELECT TO vanguard_read '
                           'USING (organization_id = (SELECT public.reader_organization()))', relation);
        END IF;
        IF NOT (SELECT c.relrowsecurity FROM pg_class AS c WHERE c.oid = relation) THEN
            EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
        END IF;
    END LOOP;
END
$$;
