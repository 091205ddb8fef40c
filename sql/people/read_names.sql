-- What people are called. $1 organization, $2 people (text[]: ids of accounts).
-- Returns id, name (NULL for whoever is no member) of each.
SELECT given.id, vanguard.name_of($1, given.id) AS name
  FROM unnest($2::text[]) AS given (id);
