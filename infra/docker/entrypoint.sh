#!/bin/sh
# One command per service of docker-compose.yml; anything else is run as it stands.
set -eu

passwords() {
    install -m 0600 /dev/null "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
    python -c 'import json, os; print(json.dumps({"admin": os.environ["AIRFLOW_ADMIN_PASSWORD"]}))' \
        > "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
}

case "${1:?usage: entrypoint.sh init|api-server|scheduler|dag-processor|triggerer|mlflow|COMMAND ...}" in
init)
    : "${AIRFLOW_ADMIN_PASSWORD:?is empty; see .env.example}"
    mkdir -p "$AIRFLOW_HOME"
    passwords
    airflow db migrate
    airflow pools set gpu "${PALIMPSEST_GPU_SLOTS:-1}" "One slot per GPU: generation and training" --include-deferred
    airflow pools set dbt "${PALIMPSEST_DBT_SLOTS:-2}" "dbt builds at a time"
    python -m palimpsest sync
    ;;
api-server | scheduler | dag-processor | triggerer)
    exec airflow "$@"
    ;;
mlflow)
    shift
    exec mlflow server --host "${MLFLOW_BIND:-0.0.0.0}" --port "${MLFLOW_PORT:-5000}" --workers 2 \
        --artifacts-destination "${MLFLOW_ARTIFACTS:-/data/mlartifacts}" \
        --allowed-hosts "${MLFLOW_ALLOWED_HOSTS:-mlflow:5000,localhost:*,127.0.0.1:*}" "$@"
    ;;
healthy)
    case "${2:?usage: entrypoint.sh healthy SchedulerJob|TriggererJob|DagProcessorJob|URL}" in
    *://*) exec python -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' "$2" ;;
    *) exec airflow jobs check --job-type "$2" --local ;;
    esac
    ;;
*)
    exec "$@"
    ;;
esac
