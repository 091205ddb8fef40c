-- Rows were deleted upstream under unfinished changes: the whole row goes into the base of those that edit it, so that
-- a conflict shows it and it can be inserted again. $1 organization, $2 revision (bigint: that of the deletions).
UPDATE pfa.change AS c
   SET base = h.before || c.base
  FROM pfa.history AS h
 WHERE h.organization_id = $1
   AND h.revision = $2
   AND h.op = 'delete'
   AND c.organization_id = $1
   AND c.row_key = h.row_key
   AND c.op = 'update'
   AND c.state = ANY (vanguard.unfinished());
