"""What shipped extensions are built from; no extension by itself."""
