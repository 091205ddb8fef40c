-- Who approved which iteration of a request, in order. $1 organization, $2 request_id (uuid).
-- Returns iteration, approver, approver_name, digest, at.
SELECT a.iteration, a.approver, vanguard.name_of($1, a.approver) AS approver_name, a.digest, a.at
  FROM public.approval AS a
 WHERE a.organization_id = $1
   AND a.request_id = $2
 ORDER BY a.iteration, a.at, a.approver;
