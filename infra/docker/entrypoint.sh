#!/bin/sh
# One command per service of docker-compose.yml; anything else is run as it stands.
set -eu

passwords() {
    install -m 0600 /dev/null "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
    python -c 'import json, os; print(json.dumps({"admin": os.environ["AIRFLOW_ADMIN_PASSWORD"]}))' \
        > "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
}

answers() {
    python - "$1" <<'PYTHON'
import sys, urllib.error, urllib.request

try:
    urllib.request.urlopen(sys.argv[1], timeout=5)
except urllib.error.HTTPError as refused:
    sys.exit(refused.code >= 500)  # asking for a login is healthy too
PYTHON
}

pools() {
    cat <<JSON
{
  "gpu": {"slots": ${PALIMPSEST_GPU_SLOTS:-1}, "description": "One slot per GPU", "include_deferred": true},
  "dbt": {"slots": ${PALIMPSEST_DBT_SLOTS:-2}, "description": "dbt builds at a time", "include_deferred": false},
  "train": {"slots": ${PALIMPSEST_TRAIN_SLOTS:-1}, "description": "Training runs at a time", "include_deferred": false}
}
JSON
}

case "${1:?usage: entrypoint.sh init|api-server|scheduler|dag-processor|triggerer|mlflow|mlflow-gateway|COMMAND ...}" in
init)
    : "${AIRFLOW_ADMIN_PASSWORD:?is empty; see .env.example}"
    mkdir -p "$AIRFLOW_HOME"
    passwords
    airflow db migrate
    pools > "$AIRFLOW_HOME/pools.json"
    airflow pools import "$AIRFLOW_HOME/pools.json"
    python -m palimpsest sync
    python -m palimpsest_airflow.local.dbt_docs
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
mlflow-gateway)
    exec python -m palimpsest_airflow.gateway
    ;;
healthy)
    case "${2:?usage: entrypoint.sh healthy SchedulerJob|TriggererJob|DagProcessorJob|URL}" in
    *://*) answers "$2" ;;
    *) exec airflow jobs check --job-type "$2" --local ;;
    esac
    ;;
*)
    exec "$@"
    ;;
esac
