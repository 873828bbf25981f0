"""Which texts deserve a place in a mix: scores of documents and generations, between generate and build."""
