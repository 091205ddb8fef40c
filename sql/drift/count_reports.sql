-- How many reports of drift an organization has. $1 organization. Returns reports, their number.
SELECT count(*) AS reports FROM public.drift_report AS r WHERE r.organization_id = $1;
