"""rag-app: retrieval-augmented generation on LangChain that is never silently wrong."""
