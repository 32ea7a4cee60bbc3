"""File bytes to text with structure: one format a file."""
