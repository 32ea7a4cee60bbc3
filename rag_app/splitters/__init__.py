"""How a document becomes chunks: one splitter a file."""
