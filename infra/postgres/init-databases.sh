#!/bin/bash
# One database and one owner each for Airflow, MLflow and the catalog. The postgres image runs this once, on an empty
# data folder.
set -euo pipefail

create() {
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "${POSTGRES_DB:-postgres}" \
        --set name="$1" --set password="$2" <<'SQL'
create role :"name" login password :'password';
create database :"name" owner :"name";
revoke connect on database :"name" from public;
SQL
}

create airflow "${AIRFLOW_DB_PASSWORD:?is empty; see .env.example}"
create mlflow "${MLFLOW_DB_PASSWORD:?is empty; see .env.example}"
create catalog "${CATALOG_DB_PASSWORD:?is empty; see .env.example}"
