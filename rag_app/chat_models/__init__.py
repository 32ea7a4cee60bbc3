"""Chat models: one backend a file."""
