"""Question to answer: one pipeline a file, plain to read; copy one and edit it."""
