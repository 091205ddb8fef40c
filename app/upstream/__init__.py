"""Systems of record: what any of them has to offer (protocol.py), where each is (directory.py), and PEMS."""
