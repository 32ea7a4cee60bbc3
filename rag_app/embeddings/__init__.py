"""Embedding models: one backend a file."""
