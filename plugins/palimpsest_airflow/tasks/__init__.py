"""The tasks of both Dags: each body is one call into the library and returns what was published, by reference."""
