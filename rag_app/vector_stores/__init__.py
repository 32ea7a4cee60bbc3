"""Vector stores: one a file, each only the primitives under `rag_app.store.Store`."""
