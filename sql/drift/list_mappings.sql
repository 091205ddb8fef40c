-- What fields are read from that the contract, or the file of upstreams, calls otherwise.
-- $1 organization, $2 base (the dataset's name without a version). Returns field (as it was called when it was mapped),
-- field_id (0: it goes by the name), name (NULL: the field is null), report_id, mapped_by, mapped_by_name, mapped_at;
-- those that go by the name first.
SELECT m.field, m.field_id, m.name, m.report_id, m.mapped_by, vanguard.name_of($1, m.mapped_by) AS mapped_by_name,
       vanguard.utc(m.mapped_at) AS mapped_at
  FROM public.field_mapping AS m
 WHERE m.organization_id = $1
   AND m.dataset = $2
 ORDER BY m.field_id, m.field;
