"""The processes of trainq, one package each. They never import one another."""
