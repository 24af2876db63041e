"""SYLLO, syllacrostic puzzles: clues, and a bank of syllables out of which the words they mean are laid.

``words`` is the list (``words.tsv``, of this project's own writing), ``levels`` the table of the ten levels,
``puzzles`` makes a puzzle from (level, seed, index), ``texts`` owns the format, both ways: it writes a puzzle and reads
one, and ``checking`` judges an answer by the question alone.
"""
