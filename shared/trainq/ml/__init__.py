"""Machine learning: the only place that imports torch, transformers, accelerate and safetensors.

Control processes and the command line never import it; what needs it runs in a child of its own. Importing these
modules runs no tensor operation and initialises no GPU, so that a fork server may preload them.
"""
