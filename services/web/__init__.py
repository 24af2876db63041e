"""Status and orders over HTTP, for this machine alone."""
