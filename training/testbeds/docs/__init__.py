"""CPython's documentation with degraded texts among it: what scores of texts find, and what their choice teaches."""
