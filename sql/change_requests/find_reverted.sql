-- The rows that a commit, or a merge, changed and that have reached the mirror.
-- $1 organization, $2 commit_id (uuid). Returns row_key, in order.
-- Plan: change_committed.
SELECT c.row_key
  FROM pfa.change AS c
 WHERE c.organization_id = $1
   AND c.commit_id = $2
   AND c.state = 'synced'
 ORDER BY c.row_key;
