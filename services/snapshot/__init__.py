"""The snapshot worker: second copies of generations, and the proof that they are whole."""
