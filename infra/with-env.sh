#!/bin/sh
# Runs a command with the settings of .env, as Docker Compose does: what the environment already has wins.
# plugins/palimpsest/settings.py does the same for the command lines.
set -eu
file="$(dirname "$0")/../.env"
if [ -f "$file" ]; then
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        '#'* | '') continue ;;
        [A-Za-z_]*=*) ;;
        *) echo ".env: not NAME=value: $line" >&2 && exit 2 ;;
        esac
        name=${line%%=*}
        eval "set_already=\${$name+yes}"
        [ -n "${set_already:-}" ] || export "$name=${line#*=}"
    done < "$file"
fi
exec "$@"
