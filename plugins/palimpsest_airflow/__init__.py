"""How Airflow touches the platform: tasks, links, the UI plugin, and the local stack."""
