"""Readers take a document and a field.

Nothing of the control tables: `vanguard migrate` makes the columns of the datasets anew. The revision tells a service
of before and one of after apart, which call the readers differently.
"""

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing to do."""


def downgrade() -> None:
    """Nothing to do."""
