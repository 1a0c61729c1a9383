#!/bin/sh
# Installs streamae as a service, or upgrades it: program, unit, and what is missing of the configuration.
# As root, in a checkout: deploy/systemd/install.sh. What stands in /etc/streamae is never overwritten.
# PYTHON names the interpreter (3.11 to 3.13), DESTDIR a folder to install under instead of /.
set -eu
checkout=$(cd "$(dirname "$0")/../.." && pwd)
to=${DESTDIR:-}
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || {
  echo "$python is not Python 3.11 to 3.13; name another: PYTHON=python3.12 $0" >&2
  exit 1
}
"$python" -m venv "$to/opt/streamae"
"$to/opt/streamae/bin/pip" install --quiet --upgrade --constraint "$checkout/constraints.txt" "$checkout[fast]"

install -d -m 755 "$to/etc/streamae" "$to/etc/systemd/system"
config=$to/etc/streamae/streamae.yaml
[ -e "$config" ] || install -m 644 "$checkout/deploy/streamae.yaml" "$config"
# The broker's password; empty where it wants none.
[ -e "$to/etc/streamae/mqtt-password" ] || install -m 600 /dev/null "$to/etc/streamae/mqtt-password"
install -m 644 "$checkout/deploy/systemd/streamae.service" "$to/etc/systemd/system/streamae.service"
[ -n "$to" ] || systemctl daemon-reload

echo "Installed. Now edit $config, check it with"
echo "  $to/opt/streamae/bin/streamae check -c $config"
echo "and start the service: systemctl enable --now streamae"
