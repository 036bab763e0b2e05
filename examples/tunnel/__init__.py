"""A reference tunnel with a server and two clients, step by step: ``python -m examples.tunnel``."""
