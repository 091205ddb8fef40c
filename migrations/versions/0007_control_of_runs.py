"""Who has paused a dataset's synchronization or stopped a run, what a run may do, and what it goes by.

Columns of `change` come with the contracts' tables (sql/schema/dataset.sql).
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # paused_by: nobody where a worker connected the dataset paused. allow: guards of a pull that do not hold for this
    # run; report: what a check has found; tally: rows of the mirror at the beginning, and what was done since (present,
    # inserts, changes, quarantine); doubt: why it is not certain that all rows came; marked: the row with the latest
    # modification (mark); witness: the one that a pull of what was modified has to bring; normalized: changes of which
    # upstream made something else. full_wanted: the next pull reads everything.
    op.execute("""
ALTER TABLE public.synchronization
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN paused_by text COLLATE "C",
    ADD COLUMN marked text COLLATE "C",
    ADD COLUMN full_wanted boolean NOT NULL DEFAULT FALSE,
    ADD CONSTRAINT synchronization_paused_by_check CHECK (paused_by IS NULL OR paused_at IS NOT NULL);

ALTER TABLE public.sync_run
    ADD COLUMN allow text[] NOT NULL DEFAULT '{}',
    ADD COLUMN stop_by text COLLATE "C",
    ADD COLUMN stop_at timestamptz,
    ADD COLUMN report jsonb,
    ADD COLUMN tally jsonb,
    ADD COLUMN doubt text,
    ADD COLUMN marked text COLLATE "C",
    ADD COLUMN witness text COLLATE "C",
    ADD COLUMN normalized bigint NOT NULL DEFAULT 0,
    DROP CONSTRAINT sync_run_kind_check,
    ADD CONSTRAINT sync_run_kind_check CHECK (kind IN ('pull', 'push', 'check')),
    ADD CONSTRAINT sync_run_allow_check CHECK (allow <@ ARRAY['deletions', 'inserts', 'changes', 'quarantine']),
    ADD CONSTRAINT sync_run_stop_at_check CHECK ((stop_by IS NULL) = (stop_at IS NULL));
    """)


def downgrade() -> None:
    op.execute("""
DELETE FROM public.sync_run AS r WHERE r.kind = 'check';
ALTER TABLE public.sync_run
    DROP CONSTRAINT sync_run_kind_check,
    ADD CONSTRAINT sync_run_kind_check CHECK (kind IN ('pull', 'push')),
    DROP COLUMN allow,
    DROP COLUMN stop_by,
    DROP COLUMN stop_at,
    DROP COLUMN report,
    DROP COLUMN tally,
    DROP COLUMN doubt,
    DROP COLUMN marked,
    DROP COLUMN witness,
    DROP COLUMN normalized;
ALTER TABLE public.synchronization
    DROP COLUMN paused_at,
    DROP COLUMN paused_by,
    DROP COLUMN marked,
    DROP COLUMN full_wanted;
    """)
