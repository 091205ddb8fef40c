-- What happened after a number, in order: all of it for the tailer, or what a reader may see of all, or of a dataset.
-- $1 organization, $2 after (bigint), $3 limit (bigint), then what the marker needs: app/feed/reader.py fills it.
-- Returns number, dataset, audience, for_admins, for_engineers, and event (text: the members of its JSON object but
-- for the id). Plan: the primary key, or feed_of_dataset, from that number on; memberships and accounts by primary key.
SELECT f.number, f.dataset, f.audience, f.for_admins, f.for_engineers,
       concat('"type":', to_json(f.type), ',"at":', to_json(vanguard.utc(f.at)), ',"dataset":', to_json(f.dataset),
              ',"revision":', coalesce(f.revision::text, 'null'), ',"actor":',
              CASE WHEN f.actor IS NULL THEN 'null'
                   ELSE concat('{"id":', to_json(f.actor), ',"name":', coalesce(to_json((
                                   SELECT a.name
                                     FROM public.membership AS m
                                     JOIN public.account AS a ON a.id = m.account_id
                                    WHERE m.organization_id = $1 AND m.account_id = f.actor
                               ))::text, 'null'), '}')
              END,
              ',"count":', coalesce(f.row_count::text, 'null'),
              CASE WHEN f.row_count <= 1000 THEN ',"ids":' || array_to_json(f.keys)::text END,
              ',"keys":' || f.renamed::text, ',"details":', f.details) AS event
  FROM public.feed AS f
 WHERE f.organization_id = $1
   AND f.number > $2
   AND /*{seen}*/TRUE/*{}*/
 ORDER BY f.number
 LIMIT $3;
