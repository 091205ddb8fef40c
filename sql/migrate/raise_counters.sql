-- Every revision goes on from the new incarnation's number, so that each ETag and version of the lost time stays what
-- it is: of something that is not there. $1 number (bigint).
-- All organizations: a database is restored as a whole.
WITH datasets AS (
    UPDATE public.dataset SET revision = greatest(revision, $1)
)
UPDATE public.workspace SET revision = greatest(revision, $1);
