"""Mapped fields: a mapping is of a field by its id, whatever a version calls it."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # field_id: 0 where fields have none, and of mappings of before: those are of the field that has the name.
    op.execute("""
ALTER TABLE public.field_mapping
    ADD COLUMN field_id integer NOT NULL DEFAULT 0,
    DROP CONSTRAINT field_mapping_pkey,
    ADD PRIMARY KEY (organization_id, dataset, field, field_id);
    """)


def downgrade() -> None:
    op.execute("""
DELETE FROM public.field_mapping AS m
 WHERE EXISTS (SELECT FROM public.field_mapping AS o
                WHERE o.organization_id = m.organization_id AND o.dataset = m.dataset AND o.field = m.field
                  AND o.field_id > m.field_id);
ALTER TABLE public.field_mapping
    DROP CONSTRAINT field_mapping_pkey,
    DROP COLUMN field_id,
    ADD PRIMARY KEY (organization_id, dataset, field);
    """)
