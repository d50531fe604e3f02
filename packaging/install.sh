#!/bin/sh
# Installs Watchfire from this directory, without any network: program, units, manual pages,
# completions, configuration. Nothing is started.
#
#   sudo ./install.sh                    to /usr/local
#   sudo ./install.sh --prefix /opt/watchfire
#   sudo ./install.sh --uninstall        removes what was installed; keeps configuration and data
#
# DESTDIR=DIR installs below DIR, for packages and images.
set -eu

prefix=/usr/local
action=install
while [ $# -gt 0 ]; do
    case "$1" in
        --prefix)
            [ $# -ge 2 ] || { echo "install.sh: --prefix needs a directory" >&2; exit 2; }
            prefix=$2
            shift
            ;;
        --uninstall) action=uninstall ;;
        -h | --help)
            sed -n '2,9s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *)
            echo "install.sh: unknown argument $1; see --help" >&2
            exit 2
            ;;
    esac
    shift
done
case "$prefix" in
    /*) ;;
    *) echo "install.sh: --prefix must be absolute, not $prefix" >&2; exit 2 ;;
esac

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=${DESTDIR:-}
units=/etc/systemd/system
etc=/etc/watchfire

reload_systemd() {
    if [ -z "$root" ] && [ -d /run/systemd/system ]; then
        systemctl daemon-reload
    fi
}

if [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
    echo "install.sh: needs root: sudo $0" >&2
    exit 1
fi

if [ "$action" = uninstall ]; then
    for unit in "$here"/systemd/*.service; do
        name=$(basename "$unit")
        if [ -z "$root" ] && [ -d /run/systemd/system ]; then
            systemctl disable --now "$name" 2>/dev/null || true
        fi
        rm -f "$root$units/$name"
    done
    rm -f "$root$prefix/bin/watchfire"
    for page in "$here"/man/*.1; do
        rm -f "$root$prefix/share/man/man1/$(basename "$page")"
    done
    rm -f "$root$prefix/share/bash-completion/completions/watchfire" \
        "$root$prefix/share/zsh/site-functions/_watchfire" \
        "$root$prefix/share/fish/vendor_completions.d/watchfire.fish"
    reload_systemd
    echo "Removed. Configuration stays in $etc, data in /var/lib/watchfire*."
    exit 0
fi

# A bundle that was carried here on a stick is checked before anything of it runs.
if ! (cd "$here" && sha256sum --quiet --check SHA256SUMS); then
    echo "install.sh: files of this bundle are damaged; nothing was installed" >&2
    exit 1
fi

install -D -m 0755 "$here/watchfire" "$root$prefix/bin/watchfire"
for page in "$here"/man/*.1; do
    install -D -m 0644 "$page" "$root$prefix/share/man/man1/$(basename "$page")"
done
install -D -m 0644 "$here/completions/watchfire.bash" \
    "$root$prefix/share/bash-completion/completions/watchfire"
install -D -m 0644 "$here/completions/_watchfire" \
    "$root$prefix/share/zsh/site-functions/_watchfire"
install -D -m 0644 "$here/completions/watchfire.fish" \
    "$root$prefix/share/fish/vendor_completions.d/watchfire.fish"
for unit in "$here"/systemd/*.service; do
    name=$(basename "$unit")
    install -d "$root$units"
    sed "s|/usr/bin/watchfire|$prefix/bin/watchfire|" "$unit" > "$root$units/$name"
    chmod 0644 "$root$units/$name"
done
for file in "$here"/etc/*; do
    name=$(basename "$file")
    mode=0644
    # Environment may hold a join token; systemd reads it as root.
    case "$name" in *.env) mode=0600 ;; esac
    if [ -e "$root$etc/$name" ]; then
        echo "kept $etc/$name"
    else
        install -D -m "$mode" "$file" "$root$etc/$name"
    fi
done
reload_systemd

cat <<TEXT
Installed $prefix/bin/watchfire. Start what this host shall do:
  everything in one     systemctl enable --now watchfire          # http://127.0.0.1:9595
  only collect          systemctl enable --now watchfire-agent    # after editing $etc/agent.env
Then: watchfire top, watchfire doctor, man watchfire
TEXT
