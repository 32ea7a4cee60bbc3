"""Sources to documents to chunks to vectors to store, and the record of what should be there."""
