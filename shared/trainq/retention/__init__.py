"""Retention: which copies of the model stay, which may go, and the trash in between.

``rules`` decides and is pure; ``stock`` reads what lies in a home, with the reasons why a copy must stay whatever the
rules say; ``trash`` moves. The command line shows the very plan that the worker carries out. Neither decides alone:
each removal is asked of the broker, which looks once more, and is in the journal before anything moves.
"""
