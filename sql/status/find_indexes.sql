-- Which of some indexes a dataset has, ready to be used. $1 names (text[]). Returns name.
SELECT c.relname AS name
  FROM pg_class AS c
  JOIN pg_index AS i ON i.indexrelid = c.oid
 WHERE c.relnamespace = 'pfa'::regnamespace
   AND c.relname = ANY ($1::text[])
   AND i.indisvalid;
