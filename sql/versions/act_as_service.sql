-- Act as the service again, as the connection began. No parameters. Returns nothing.
RESET ROLE;
