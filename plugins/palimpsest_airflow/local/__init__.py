"""The platform on one machine: Airflow's components on SQLite, MLflow, and the demo that drives them."""
