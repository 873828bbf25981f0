"""What finished runs come to: a study's runs as a table, with intervals and laws, and as a page, figures and MLflow."""
