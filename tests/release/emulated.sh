#!/bin/sh
# Runs a command where the kernel starts programs of another processor through qemu: emulated.sh PROCESSOR COMMAND…
#
# Where systemd runs, Debian's qemu-user-static has registered qemu with the kernel already. Elsewhere it is registered for this command
# alone, in a user namespace with a register of its own (Linux 6.7), so that nothing changes for the rest of the machine.
set -eu
processor=$1
shift
register=/proc/sys/fs/binfmt_misc
# F: qemu is opened once, and need not be there in a root folder.
if grep -qs '^flags:.*F' "$register/qemu-$processor"; then
    exec "$@"
fi
modprobe binfmt_misc 2>/dev/null || true

gate=$(mktemp -d)
trap 'rm -rf "$gate"' EXIT
mkfifo "$gate/ready" "$gate/mapped"
# shellcheck disable=SC2016 # expanded by the inner shells: the first becomes root once its namespace has names for all users
unshare --user --mount --pid --fork --kill-child sh -c 'echo >"$0/ready"; read -r _ <"$0/mapped"; exec "$@"' "$gate" \
    sh -euc '
        mount -t proc proc /proc
        mount -t binfmt_misc binfmt_misc "$0"
        printf %s "$(grep -v "^#" "/usr/lib/binfmt.d/qemu-$1.conf")" >"$0/register"
        shift
        exec "$@"
    ' "$register" "$processor" "$@" &
inside=$!
trap 'kill "$inside" 2>/dev/null || true; rm -rf "$gate"' EXIT
trap 'exit 130' INT TERM
read -r _ <"$gate/ready"
for kind in uid gid; do
    echo "0 0 4294967294" >"/proc/$inside/${kind}_map"
done
echo >"$gate/mapped"
wait "$inside"
