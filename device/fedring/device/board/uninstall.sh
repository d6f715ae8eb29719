#!/bin/sh
# Takes fedring off this board: sudo fedring-uninstall
#
# The board's key goes, too, so that it cannot come back by itself: also revoke it on the owner's
# machine, with `fedring fleet revoke NAME`. Files of others in /var/lib/fedring stay.
set -eu
state=/var/lib/fedring

if [ "$(id -u)" != 0 ]; then
    echo "fedring: fedring-uninstall needs root: sudo $0" >&2
    exit 1
fi

units="fedring-device.service fedring-update.path fedring-update.service"
if [ -d /run/systemd/system ]; then
    # shellcheck disable=SC2086  # three words
    systemctl stop $units 2>/dev/null || true
fi
# shellcheck disable=SC2086
systemctl disable --quiet $units 2>/dev/null || true
for unit in $units; do
    rm -rf "/etc/systemd/system/$unit" "/etc/systemd/system/$unit.d"
done
rm -f /etc/systemd/journald.conf.d/fedring.conf
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi

rm -rf /opt/fedring /etc/fedring /var/lib/fedring-update
if [ -d "$state" ]; then
    rm -rf "$state/state" "$state/state.old" "$state/inbox" "$state/bootstrap.json" \
        "$state"/device.key* "$state"/device.crt*
    if rmdir "$state" 2>/dev/null; then
        userdel fedring 2>/dev/null || true
    else
        echo "fedring: $state holds files that are not fedring's: they stay, and their user fedring"
    fi
fi
rm -f /usr/local/sbin/fedring-update /usr/local/sbin/fedring-uninstall
echo "fedring: gone from this board; on the owner's machine: fedring fleet revoke NAME"
