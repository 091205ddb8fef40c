"""The feed: what happened in an organization, numbered without gaps in the order of commits."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # feed_counter.number: of the organization's newest entry. Every transaction that appends raises it last, so it is
    # rewritten all the time: room on its page keeps that cheap.
    # feed: of one entry. revision: of the mirror, NULL where the mirror stayed; row_count: how many rows it is about,
    # and keys which; renamed: {temporary key: key} of rows that got theirs from upstream; audience: whose it is, NULL
    # for every member; for_admins: every ADMIN's, too.
    op.execute("""
CREATE TABLE public.feed_counter (
    organization_id text COLLATE "C" PRIMARY KEY REFERENCES public.organization (id) ON DELETE CASCADE,
    number bigint NOT NULL CHECK (number >= 0)
) WITH (fillfactor = 10);
INSERT INTO public.feed_counter (organization_id, number) SELECT o.id, 0 FROM public.organization AS o;

CREATE TABLE public.feed (
    organization_id text COLLATE "C" NOT NULL REFERENCES public.feed_counter (organization_id) ON DELETE CASCADE,
    number bigint NOT NULL,
    at timestamptz NOT NULL,
    type text COLLATE "C" NOT NULL,
    dataset text COLLATE "C" NOT NULL,
    revision bigint,
    actor text COLLATE "C",
    row_count bigint,
    keys text[] COLLATE "C",
    renamed jsonb,
    details jsonb NOT NULL DEFAULT '{}',
    audience text[] COLLATE "C",
    for_admins boolean NOT NULL DEFAULT FALSE,
    PRIMARY KEY (organization_id, number),
    CONSTRAINT feed_number_check CHECK (number > 0),
    CONSTRAINT feed_row_count_check CHECK (row_count >= 0),
    CONSTRAINT feed_details_check CHECK (jsonb_typeof(details) = 'object')
);
CREATE INDEX feed_of_dataset ON public.feed (organization_id, dataset, number);
CREATE INDEX workspace_of_user ON public.workspace (organization_id, user_id);

-- The oldest entries, as far as all of them are from before a time: what is left has no gaps either.
CREATE FUNCTION public.forget_feed(organization text, earlier timestamptz, most bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    forgotten bigint;
BEGIN
    WITH oldest AS MATERIALIZED (
        SELECT f.number, f.at
          FROM public.feed AS f
         WHERE f.organization_id = organization
         ORDER BY f.number
         LIMIT most
    )
    DELETE FROM public.feed AS f
     WHERE f.organization_id = organization
       AND f.number >= (SELECT min(o.number) FROM oldest AS o)
       AND f.number <= (SELECT max(o.number) FROM oldest AS o)
       AND f.number < coalesce((SELECT min(o.number) FROM oldest AS o WHERE o.at >= earlier), 9223372036854775807);
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$$;
REVOKE ALL ON FUNCTION public.forget_feed(text, timestamptz, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.forget_feed(text, timestamptz, bigint) TO vanguard_app;
GRANT SELECT, INSERT ON public.feed TO vanguard_app;
GRANT SELECT, INSERT, UPDATE ON public.feed_counter TO vanguard_app;
    """)


def downgrade() -> None:
    op.execute("""
DROP FUNCTION public.forget_feed(text, timestamptz, bigint);
DROP INDEX public.workspace_of_user;
DROP TABLE public.feed;
DROP TABLE public.feed_counter;
    """)
