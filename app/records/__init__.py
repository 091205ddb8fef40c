"""Records: read out of uploads, made into documents of a dataset, and contracts inferred from them."""
