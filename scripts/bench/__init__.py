"""Benchmarks: each prints a table beside its limit or a peer, all of one run, interleaved. None is a test."""
