"""The consolidator: merges the adapter into the weights under it, for the line to go on from."""
