#!/bin/sh
# Writes .env from .env.example with a fresh value for every secret that is empty there.
set -eu
cd "$(dirname "$0")/.."
[ ! -e .env ] || { echo ".env exists; delete it first to make new secrets (the databases keep the old ones)." >&2; exit 1; }

random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

umask 077
while IFS= read -r line || [ -n "$line" ]; do
    case $line in
    AIRFLOW_FERNET_KEY=) echo "$line$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')" ;;
    [A-Z]*=) echo "$line$(random 16)" ;;
    '#AIRFLOW_UID='*) echo "AIRFLOW_UID=$(id -u)" ;;
    *) echo "$line" ;;
    esac
done < .env.example > .env.new
mv .env.new .env
echo "Wrote .env. The Airflow login is admin, with AIRFLOW_ADMIN_PASSWORD from that file."
