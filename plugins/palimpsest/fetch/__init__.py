"""What brings a corpus' source files from elsewhere into the lake, each whole and checked, or an error."""
