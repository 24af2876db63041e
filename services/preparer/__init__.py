"""The preparer: judges the rows of accepted files, tokenises them, and publishes them as shards in ``cache/``."""
