"""``trainq chaos``: an installation of its own that is broken on purpose, and the proof that nothing was lost.

:mod:`~trainq.chaos.plan` decides, from a seed, what breaks, what is submitted and what upkeep is asked for, and when;
:mod:`~trainq.chaos.faults`, :mod:`~trainq.chaos.load` and :mod:`~trainq.chaos.upkeep` do it; :mod:`~trainq.chaos.proof`
looks at what is left; :mod:`~trainq.chaos.campaign` is the whole. Imported by the command line alone.
"""
