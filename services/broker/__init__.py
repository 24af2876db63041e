"""The broker: owner of the journal, the request and event sockets, and the leases. It does no work of its own."""
