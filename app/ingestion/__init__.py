"""Uploads: records read out of them, made into documents of a dataset, and contracts inferred from them."""
