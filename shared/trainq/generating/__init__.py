"""Generated files: rows made by a program from (count, level, seed), the same rows whenever they are made again.

``base`` says what a generator is, ``registry`` finds one by its name (built-in, or a plug-in), ``syllo``,
``arithmetic`` and ``command`` are those that come along, ``producing`` judges every row of any of them, and ``child``
is the process that writes a file. Importing none of them reaches torch or numpy.
"""
