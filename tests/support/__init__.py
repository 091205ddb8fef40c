"""What tests stand on, and is no test itself."""
