-- Lock 2: the caller's own workspace, raised by every change of the caller's modifications; their version is taken
-- from it. A new one counts from the incarnation's number, so that no version of a lost time comes again.
-- $1 organization, $2 dataset, $3 user, $4 keys (text[]: those about to be written). Returns revision, state (of the
-- dataset), incarnation, feed_number (of the feed's newest entry), absent: those keys that the mirror does not have,
-- for lock 3, and refused: those where upstream refused a change of the caller's.
INSERT INTO public.workspace AS w (organization_id, dataset, user_id, revision)
VALUES ($1, $2, $3, (SELECT i.number FROM public.incarnation AS i) + 1)
ON CONFLICT (organization_id, dataset, user_id) DO UPDATE SET revision = w.revision + 1
RETURNING w.revision,
          (SELECT d.state FROM public.dataset AS d WHERE d.organization_id = $1 AND d.name = $2) AS state,
          (SELECT i.number FROM public.incarnation AS i) AS incarnation,
          (SELECT c.number FROM public.feed_counter AS c WHERE c.organization_id = $1) AS feed_number,
          ARRAY(
              SELECT key
                FROM unnest($4::text[]) AS key
               WHERE NOT EXISTS (SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = key)
          ) AS absent,
          ARRAY(
              SELECT x.row_key
                FROM unnest($4::text[]) AS key
               CROSS JOIN LATERAL (
                         SELECT x.row_key
                           FROM pfa.modification AS x
                          WHERE x.organization_id = $1 AND x.user_id = $3 AND x.row_key = key
                            AND x.pending_state = ANY (vanguard.refused())
                          LIMIT 1
                     ) AS x
          ) AS refused;
