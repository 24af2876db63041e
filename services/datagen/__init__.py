"""Makes files for the model to learn from, when few wait."""
