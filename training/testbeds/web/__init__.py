"""Web text with degraded and generated texts among it: what scores of texts find, and what their choice teaches."""
