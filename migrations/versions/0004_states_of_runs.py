"""What holds for every run of synchronization, state by state."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
UPDATE public.sync_run AS r
   SET started_at = CASE WHEN r.state <> 'requested' THEN coalesce(r.started_at, r.requested_at) END,
       finished_at = CASE WHEN r.state IN ('succeeded', 'failed')
                          THEN coalesce(r.finished_at, r.progressed_at, r.started_at, r.requested_at) END,
       error_code = CASE WHEN r.state = 'failed' THEN coalesce(r.error_code, 'INTERNAL_ERROR') END
 WHERE (r.started_at IS NULL) <> (r.state = 'requested')
    OR (r.finished_at IS NOT NULL) <> (r.state IN ('succeeded', 'failed'))
    OR (r.error_code IS NOT NULL) <> (r.state = 'failed');
ALTER TABLE public.sync_run
    ADD CONSTRAINT sync_run_started_at_check CHECK ((started_at IS NULL) = (state = 'requested')),
    ADD CONSTRAINT sync_run_finished_at_check CHECK ((finished_at IS NOT NULL) = (state IN ('succeeded', 'failed'))),
    ADD CONSTRAINT sync_run_error_code_check CHECK ((error_code IS NOT NULL) = (state = 'failed'));
    """)


def downgrade() -> None:
    op.execute("""
ALTER TABLE public.sync_run
    DROP CONSTRAINT sync_run_started_at_check,
    DROP CONSTRAINT sync_run_finished_at_check,
    DROP CONSTRAINT sync_run_error_code_check;
    """)
