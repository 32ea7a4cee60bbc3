"""How found chunks are ordered anew: one reranker a file."""
