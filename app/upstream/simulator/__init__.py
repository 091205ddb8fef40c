"""A server that speaks as PEMS does, over invented lines, and misbehaves on request: for tests and demonstrations."""
