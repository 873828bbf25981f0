#!/bin/sh
# The system commands that tests use (infra/debian-packages.txt), from Debian's packages. Installs only what is missing;
# without root or apt it says which tests will be skipped and how to get them.
set -eu
cd "$(dirname "$0")/.."

present() {
    command -v "$1" >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/"$1" >/dev/null 2>&1
}

missing=""
while read -r command package; do
    case $command in '#'* | '') continue ;; esac
    present "$command" || missing="$missing $package"
done < infra/debian-packages.txt
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "Not installed:$missing. The tests that need them are skipped; to run them too:"
    echo "  sudo apt-get install --no-install-recommends$missing"
    exit 0
fi
echo "Installing from Debian:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # a list of packages
install() { apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1; }
install || { apt-get update -qq >/dev/null 2>&1 && install; } ||
    echo "apt-get could not install$missing; the tests that need them are skipped."
