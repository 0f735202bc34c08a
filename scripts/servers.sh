#!/usr/bin/env bash
# Make sure that the real servers and tools of the tests are here: install them where this machine allows it, name them where not.
set -euo pipefail

# program, where it may also lie, Debian package
wanted="
postfix     /usr/sbin/postfix                                      postfix
opendkim    /usr/sbin/opendkim                                     opendkim
opendkim-testkey  /usr/sbin/opendkim-testkey                       opendkim-tools
dovecot     /usr/lib/dovecot/imap                                  dovecot-imapd
swaks       /usr/bin/swaks                                         swaks
chromium    /usr/bin/chromium                                      chromium
zbarimg     /usr/bin/zbarimg                                       zbar-tools
pdftotext   /usr/bin/pdftotext                                     poppler-utils
unbound     /usr/sbin/unbound                                      unbound
strings     /usr/bin/strings                                       binutils
ipaexg.ttf  /usr/share/fonts/opentype/ipaexfont-gothic/ipaexg.ttf  fonts-ipaexfont-gothic
"

missing() {
    while read -r program path package; do
        [ -z "$program" ] || [ -e "$path" ] || command -v "$program" >/dev/null || printf '%s ' "$package"
    done <<<"$wanted"
}

packages=$(missing)
[ -n "$packages" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing for the tests: $packages"
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    # The tests start private instances on free ports; a service that the package would start has no business here.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    # shellcheck disable=SC2086  # a list of packages
    if ! { apt-get update && apt-get install --yes --no-install-recommends $packages; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
    fi
    rm -f "$log"
    packages=$(missing)
fi

if [ -n "$packages" ]; then
    echo "missing on this machine (Debian packages): $packages" >&2
    [ "${CI:-}" != true ] || exit 1
    echo "the tests that need them are skipped and named at the end" >&2
fi
