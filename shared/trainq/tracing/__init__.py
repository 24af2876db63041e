"""Which generation comes from which and holds what: by the journal and by the copies that there are."""
