"""What pulls and pushes go by: what was done so far, what is in doubt, which row has to come, and what upstream made.

Columns of `change` come with the contracts' tables (sql/schema/dataset.sql).
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # tally: rows of the mirror at the beginning, and what was done since, {present, inserts, changes, quarantine};
    # doubt: why it is not certain that all rows came; marked: the row with the latest modification (mark), witness: the
    # one that a pull of what was modified has to bring; normalized: changes of which upstream made something else.
    op.execute("""
ALTER TABLE public.sync_run
    ADD COLUMN tally jsonb,
    ADD COLUMN doubt text,
    ADD COLUMN marked text COLLATE "C",
    ADD COLUMN witness text COLLATE "C",
    ADD COLUMN normalized bigint NOT NULL DEFAULT 0;
ALTER TABLE public.synchronization
    ADD COLUMN marked text COLLATE "C",
    ADD COLUMN full_wanted boolean NOT NULL DEFAULT FALSE;
    """)


def downgrade() -> None:
    op.execute("""
ALTER TABLE public.sync_run
    DROP COLUMN tally, DROP COLUMN doubt, DROP COLUMN marked, DROP COLUMN witness, DROP COLUMN normalized;
ALTER TABLE public.synchronization DROP COLUMN marked, DROP COLUMN full_wanted;
    """)
