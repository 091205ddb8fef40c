-- How the changes of a merged request fare upstream. $1 organization, $2 commit_id (uuid).
-- Returns pending, synced, conflict, sync_error, discarded (bigint: changes; discarded are those that a person gave up,
-- or drafted over).
-- Plan: change_committed.
SELECT count(*) FILTER (WHERE c.state = ANY (vanguard.outbox())) AS pending,
       count(*) FILTER (WHERE c.state = 'synced') AS synced,
       count(*) FILTER (WHERE c.state = 'conflict') AS conflict,
       count(*) FILTER (WHERE c.state = 'sync_error') AS sync_error,
       count(*) FILTER (WHERE c.state IN ('rejected', 'discarded')) AS discarded
  FROM pfa.change AS c
 WHERE c.organization_id = $1
   AND c.commit_id = $2;
