"""The independent checker: would it be noticed if trainq's promise were false?

``python -m trainq_checker HOME [--driver FOLDER] [--receipts FILE] [--allow-open]``. It shares no code with trainq: it
imports nothing of it and has its own readers of journal, manifests, shards and ledgers (``reading``), its own fold of
the events (``history``) and its own idea of what must be true (``checks``). It only reads. Stop trainq first.
"""
