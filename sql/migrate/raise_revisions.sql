-- A migration changed what a dataset's views answer: its revision in every organization. $1 dataset.
UPDATE public.dataset SET revision = revision + 1 WHERE name = $1;
