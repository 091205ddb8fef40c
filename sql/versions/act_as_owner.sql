-- For the rest of the transaction, act as whoever logged in: the owner of the schemas, where contracts are registered.
-- No parameters. Returns nothing.
SET LOCAL ROLE NONE;
