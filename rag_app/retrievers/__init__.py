"""How chunks are found: one retriever a file."""
