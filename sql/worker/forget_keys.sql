-- Forget what a full pull has seen, before the next one. $1 organization.
DELETE FROM pfa.pulled AS p WHERE p.organization_id = $1;
