"""trainq: keeps a language model learning, unattended, from the files dropped into a folder.

This is the library that every process and the command line share. Importing it does nothing: no file is
opened, no socket made, no environment read.
"""

__version__ = "0.1.0"
