"""What a user holds in drafts, counted with what is written; large refusals as digests; keys with their bytes."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # workspace. held_rows: modifications of the user in the dataset; held_bytes: of what they draft (delta). Never less
    # than there is: whoever adds counts it, not everybody who takes away does. held_known: FALSE where something was
    # written that nobody has counted, until it is measured.
    # idempotency_key. answer_digest: SHA-256 of a refusal that is too large to be kept; refused: nothing was
    # written, so that the key can be forgotten before its time.
    # kept_answers. What a user's keys hold of an organization: how many, and bytes of their answers.
    op.execute("""
ALTER TABLE public.workspace
    ADD COLUMN held_rows bigint NOT NULL DEFAULT 0,
    ADD COLUMN held_bytes bigint NOT NULL DEFAULT 0,
    ADD COLUMN held_known boolean NOT NULL DEFAULT TRUE;
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT DISTINCT d.name, coalesce(d.schema_name, d.base) AS schema_name
          FROM public.dataset AS d
         WHERE to_regclass(format('%I.modification', coalesce(d.schema_name, d.base))) IS NOT NULL
    LOOP
        EXECUTE format('
            UPDATE public.workspace AS w
               SET held_rows = n.rows, held_bytes = n.bytes
              FROM (SELECT x.organization_id, x.user_id, count(*) AS rows,
                           sum(pg_column_size(x.delta || ''{}'')) AS bytes
                      FROM %I.modification AS x
                     GROUP BY x.organization_id, x.user_id) AS n
             WHERE w.organization_id = n.organization_id AND w.user_id = n.user_id AND w.dataset = %L',
            found.schema_name, found.name);
    END LOOP;
END
$$;

ALTER TABLE public.idempotency_key
    ADD COLUMN answer_digest bytea,
    ADD COLUMN refused boolean NOT NULL DEFAULT FALSE;
CREATE INDEX idempotency_key_refusals ON public.idempotency_key (organization_id, user_id, created_at) WHERE refused;
CREATE TABLE public.kept_answers (
    organization_id text COLLATE "C" NOT NULL REFERENCES public.organization ON DELETE CASCADE,
    user_id text COLLATE "C" NOT NULL,
    keys bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (organization_id, user_id)
) WITH (fillfactor = 50);
INSERT INTO public.kept_answers (organization_id, user_id, keys, bytes)
SELECT k.organization_id, k.user_id, count(*), coalesce(sum(octet_length(k.answer)), 0)
  FROM public.idempotency_key AS k
 GROUP BY k.organization_id, k.user_id;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.kept_answers TO vanguard_app;
    """)


def downgrade() -> None:
    # A refusal of which only the digest is kept cannot be repeated by an earlier release: its key is free again.
    op.execute("""
DROP TABLE public.kept_answers;
DELETE FROM public.idempotency_key WHERE answer_digest IS NOT NULL;
DROP INDEX public.idempotency_key_refusals;
ALTER TABLE public.idempotency_key DROP COLUMN answer_digest, DROP COLUMN refused;
ALTER TABLE public.workspace DROP COLUMN held_rows, DROP COLUMN held_bytes, DROP COLUMN held_known;
    """)
