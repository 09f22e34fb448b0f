"""`kubectl carp`: what people type."""
