"""Reopened drift: a report that was accepted is open again once the version that it made is deleted."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
INSERT INTO public.state_transition (machine, from_state, to_state) VALUES ('drift', 'accepted', 'open');
    """)


def downgrade() -> None:
    op.execute("""
DELETE FROM public.state_transition WHERE machine = 'drift' AND from_state = 'accepted';
    """)
