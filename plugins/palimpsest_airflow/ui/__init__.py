"""Pages served inside Airflow's API server."""
