"""``trainq chaos``: an installation of its own that is broken on purpose, and the proof that nothing was lost.

:mod:`~trainq.chaos.plan` decides, from a seed, what breaks and what is submitted, and when; :mod:`~trainq.chaos.faults`
and :mod:`~trainq.chaos.load` do it; :mod:`~trainq.chaos.proof` looks at what is left; :mod:`~trainq.chaos.campaign` is
the whole. Imported by the command line alone.
"""
