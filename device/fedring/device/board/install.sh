#!/bin/sh
# Puts fedring onto this board: sudo sh install.sh
#
# cloud-init runs it when a card first starts, `fedring fleet flash ssh` by ssh; again is no harm.
# All that it needs lies beside it: no network, no pip, no compiler. Nothing is changed before every
# file was found whole and this system fit. Its outcome is told in status.txt beside it.
#
# Hashes show damage, not malice: whoever can change the payload can change this script, too, and
# the authority beside it. See docs/threat-model.md, section 10.
set -eu
umask 022
payload=$(cd "$(dirname "$0")" && pwd)
root=/opt/fedring
settings=/etc/fedring
state=/var/lib/fedring
record=/var/lib/fedring-update

tell() { # TEXT: the outcome, also where it is seen when the card is back in its owner's machine
    echo "fedring: $1"
    echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $1" >"$payload/status.txt" 2>/dev/null || true
}

fail() { # TEXT
    told=yes
    tell "failed: $1" >&2
    exit 1
}

told=no
trap '[ $? = 0 ] || [ $told = yes ] || tell "failed: see what install.sh said above" >&2' EXIT

if [ "$(id -u)" != 0 ]; then
    echo "fedring: install.sh needs root: sudo sh $0" >&2
    told=yes
    exit 1
fi

# -- is everything here, and does it run here? -------------------------------------------------

command -v python3 >/dev/null || fail "this system has no python3"
python3 -c 'import asyncio, ctypes, hashlib, json, sqlite3, ssl' 2>/dev/null ||
    fail "python3 of this system is not complete: apt install python3"
python3 -c 'import ctypes; ctypes.CDLL("libstdc++.so.6")' 2>/dev/null ||
    fail "this system has no libstdc++.so.6, which numpy needs: apt install libstdc++6"

damage=$(python3 -s -E - "$payload" "$state" <<'EOF'
import hashlib, json, pathlib, sys

payload, state = map(pathlib.Path, sys.argv[1:])
try:
    files = json.loads((payload / "manifest").read_bytes())["files"]
except (OSError, ValueError, KeyError):
    sys.exit(print("manifest is missing or damaged"))
for name, file in files.items():
    path = payload / name
    if name in ("bootstrap.json", "data.csv") and not path.exists() and (state / name).exists():
        continue  # taken at an earlier run
    digest = hashlib.sha256()
    try:
        with path.open("rb") as content:
            while piece := content.read(2**20):
                digest.update(piece)
    except OSError as error:
        sys.exit(print(f"{name}: {error.strerror}"))
    if digest.hexdigest() != file["sha256"]:
        sys.exit(print(f"{name} is not as it was written"))
EOF
) || fail "the payload cannot be checked: $damage"
[ -z "$damage" ] || fail "the payload is damaged: $damage; flash again"

fact() { # NAME: what the manifest says
    python3 -s -E -c 'import json, sys; print(json.load(open(sys.argv[1]))["facts"][sys.argv[2]])' \
        "$payload/manifest" "$1"
}
name=$(fact name)

# The processor is that of Python: a kernel of 64 bits may run a system of 32.
tag=$(python3 -s -E -c '
import sys, sysconfig
version, arch = sysconfig.get_config_var("SOABI").split("-")[1:3]
print(f"cp{version}-{arch}")')
python=$(python3 -s -E -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
bundle=
for file in "$payload"/fedring-*-"$tag"*.fedring; do
    [ ! -f "$file" ] || bundle=$file
done
if [ -z "$bundle" ]; then
    fail "no bundle for this system ($tag) in the payload; make one with: fedring fleet bundle"
fi

# An update needs the other slot, and the bundle while it comes in.
kilobytes() { du -sk "$@" 2>/dev/null | awk '{ sum += $1 } END { print sum + 0 }'; }
need=$((2 * $(fact slot_kilobytes) + 2 * $(kilobytes "$bundle") - $(kilobytes "$root")))
free=$(df -Pk "$(dirname "$root")" | awk 'NR == 2 { print $4 }')
[ "$free" -ge "$need" ] ||
    fail "$root has room for $((free / 1024)) MB; two slots and a bundle need $((need / 1024)) MB"

if [ ! -e "$payload/bootstrap.json" ] && [ ! -e "$state/bootstrap.json" ]; then
    if [ ! -e "$state/device.crt" ] || ! cmp -s "$payload/ca.crt" "$settings/ca.crt"; then
        fail "neither one-time code nor certificate: fedring fleet reset $name, then flash again"
    fi
fi

# -- the clock ---------------------------------------------------------------------------------

# Boards without a clock start years back, where no certificate is valid yet.
flashed_at=$(cat "$payload/flashed_at")
if [ "$(date +%s)" -lt "$flashed_at" ]; then
    date -s "@$flashed_at" >/dev/null
    echo "fedring: the clock was before the time of flashing, and was set to that"
fi

# -- the slot ----------------------------------------------------------------------------------

running() { [ -d /run/systemd/system ]; }
if running; then # an updater at work would choose the slot, too
    systemctl stop fedring-update.path fedring-update.service 2>/dev/null || true
fi
digest=$(sha256sum "$bundle" | cut -d ' ' -f 1)
current=$(readlink "$root/current" || true)
if [ -z "$current" ] || [ "$(cat "$root/$current/bundle" 2>/dev/null)" != "$digest" ]; then
    mkdir -p "$root/slots"
    slot=slots/a
    [ "$current" != slots/a ] || slot=slots/b # not the one that may be running
    rm -rf "${root:?}/$slot.new"
    mkdir "$root/$slot.new"
    tar -xOf "$bundle" site.tar.gz |
        tar -xz --no-same-owner --no-same-permissions -C "$root/$slot.new"
    echo "$digest" >"$root/$slot.new/bundle"
    # As the unit runs it, without docstrings: 3 MB less in memory.
    "$python" -m compileall -q -o 2 "$root/$slot.new/site" >/dev/null ||
        echo "fedring: some modules could not be compiled; they start slower"
    complaint=$(PYTHONPATH="$root/$slot.new/site" PYTHONDONTWRITEBYTECODE=1 \
        "$python" -OO -s -P -c 'import fedring.device.agent' 2>&1) ||
        fail "fedring does not start on this system: $(echo "$complaint" | tail -n 1)"
    [ "$(readlink "$root/proven" || true)" != "$slot" ] || rm "$root/proven"
    rm -rf "${root:?}/$slot"
    mv "$root/$slot.new" "$root/$slot"
    sync
    ln -sfn "$slot" "$root/current.new"
    mv -T "$root/current.new" "$root/current"
    sync
    rm -f "$record/trial.json" # of a slot that is no longer the one to judge
fi

# -- settings, state, units --------------------------------------------------------------------

if running; then
    systemctl stop fedring-device.service 2>/dev/null || true
fi
id fedring >/dev/null 2>&1 ||
    useradd --system --user-group --home-dir "$state" --no-create-home \
        --shell /usr/sbin/nologin fedring

install -d -m 755 "$settings"
if [ -e "$settings/device.toml" ] && ! cmp -s "$payload/ca.crt" "$settings/ca.crt"; then
    mv "$settings/device.toml" "$settings/device.toml.old"
    echo "fedring: this board was in another fleet; its settings are kept as device.toml.old"
    rm -f "$record/outcome.json" "$record/orders"
fi
install -m 644 "$payload/ca.crt" "$settings/ca.crt"
if [ ! -e "$settings/device.toml" ] ||
    cmp -s "$settings/device.toml" "$settings/device.toml.flashed"; then
    install -m 644 "$payload/device.toml" "$settings/device.toml"
    install -m 644 "$payload/device.toml" "$settings/device.toml.flashed"
elif ! cmp -s "$payload/device.toml" "$settings/device.toml.flashed"; then
    install -m 644 "$payload/device.toml" "$settings/device.toml.new"
    echo "fedring: $settings/device.toml was edited and stays; the new one is device.toml.new"
fi

# What lies here is the agent's, and may be anything by now, such as a link to what is not.
if [ -L "$state/inbox" ] || [ ! -d "$state/inbox" ]; then
    rm -rf "${state:?}/inbox"
fi
own() { # FILE NAME: gives it to the agent
    rm -rf "${state:?}/$2"
    install -T -m 600 -o fedring -g fedring "$1" "$state/$2"
}
install -d -m 700 -o fedring -g fedring "$state" "$state/inbox"
install -d -m 755 "$record"
# Older releases than the bundle allows are not for this board any more, whoever offers them; and
# orders from before this payload was made lead forward only.
python3 -s -E - "$bundle" "$(fact orders)" "$record" <<'EOF'
import json, os, pathlib, sys, tarfile

with tarfile.open(sys.argv[1]) as bundle:
    floor = json.load(bundle.extractfile("manifest"))["facts"]["floor"]
record = pathlib.Path(sys.argv[3])

def keep(name, offered, order):
    try:
        if order((record / name).read_text()) >= order(offered):
            return
    except (OSError, ValueError):
        pass  # the first, or damaged
    with (record / f"{name}.new").open("w") as new:
        new.write(f"{offered}\n")
        new.flush()
        os.fsync(new.fileno())
    os.replace(new.name, record / name)

keep("floor", floor, lambda version: tuple(map(int, version.split("."))))
keep("orders", sys.argv[2], int)
EOF
if [ -e "$payload/bootstrap.json" ]; then
    # A new code makes a new device of the fleet: with the old certificate it would not ask for one.
    rm -rf "$state"/device.key* "$state"/device.crt* "$state/state.old"
    [ ! -e "$state/state" ] || mv "$state/state" "$state/state.old"
    own "$payload/bootstrap.json" bootstrap.json
fi
if [ -e "$payload/data.csv" ]; then
    own "$payload/data.csv" data.csv
fi

install -d -m 755 /usr/local/sbin /etc/systemd/system /etc/systemd/journald.conf.d
install -m 755 "$payload/fedring-update" /usr/local/sbin/fedring-update
install -m 755 "$payload/uninstall.sh" /usr/local/sbin/fedring-uninstall
for unit in fedring-device.service fedring-update.service fedring-update.path; do
    install -m 644 "$payload/$unit" "/etc/systemd/system/$unit"
done
install -m 644 "$payload/journald.conf" /etc/systemd/journald.conf.d/fedring.conf
sync

# Whoever finds the card must not find the code. Deleting alone leaves it on a FAT partition.
for file in bootstrap.json data.csv; do
    [ ! -e "$payload/$file" ] || shred --iterations=0 --zero --remove=unlink "$payload/$file"
done

systemctl enable --quiet fedring-device.service fedring-update.path
if running; then
    systemctl daemon-reload
    systemctl restart systemd-journald.service
    systemctl start --no-block fedring-device.service fedring-update.path
fi
tell "installed: $("$root/current/fedring" --version) for $tag as $name"
sync
