#!/bin/sh
# Installs the binaries of Postgres, Redis and PgBouncer where they are missing, and Chromium where WTCACHE_TEST_REQUIRE=1, and says so. Only binaries: no service is left
# running or enabled, and no database cluster is made. Where it cannot install, the tests' own fallbacks remain, so that this
# script fails only when it was interrupted.
set -eu

say() { echo "==> $*"; }

have_redis() {
	[ -n "${WTCACHE_TEST_REDIS_URL:-}${WTCACHE_TEST_REDIS_BIN:-}" ] ||
		command -v redis-server >/dev/null || command -v valkey-server >/dev/null
}

# Debian and Ubuntu keep the servers' binaries out of PATH; Homebrew does so for versions that are not the default.
have_postgres() {
	[ -z "${WTCACHE_TEST_DATABASE_URL:-}${WTCACHE_TEST_POSTGRES_BIN:-}" ] || return 0
	! command -v postgres >/dev/null || return 0
	for bin in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin \
		/usr/local/opt/postgresql*/bin /home/linuxbrew/.linuxbrew/opt/postgresql*/bin; do
		[ ! -x "$bin/postgres" ] || return 0
	done
	return 1
}

have_pgbouncer() {
	[ -n "${WTCACHE_TEST_PGBOUNCER_BIN:-}" ] || command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ]
}

have_chromium() {
	[ -n "${WTCACHE_TEST_CHROMIUM_BIN:-}" ] || command -v chromium >/dev/null || command -v chromium-browser >/dev/null ||
		command -v google-chrome >/dev/null || command -v google-chrome-stable >/dev/null ||
		[ -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ]
}

# The browser is large and only tests of the status page need it: it is installed where every test has to run.
want_chromium() { [ "${WTCACHE_TEST_REQUIRE:-}" = 1 ]; }

missing() {
	have_postgres || echo "postgresql"
	have_redis || echo "redis"
	have_pgbouncer || echo "pgbouncer"
	! want_chromium || have_chromium || echo "chromium"
}

# as_root runs a command with the rights to install, without ever asking for a password.
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_be_root() {
	[ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

policy=/usr/sbin/policy-rc.d
clusters=/etc/postgresql-common/createcluster.d
no_cluster=$clusters/wtcache-no-cluster.conf

# Debian's packages start what they install. policy-rc.d is Debian's switch against that (101: "not allowed"); containers
# ship with one, and an administrator's own stays in force. The second file keeps postgresql-NN from making its cluster
# "main", which a later boot would start.
quieten() {
	made_policy= made_clusters=
	trap unquieten EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	if [ ! -e "$policy" ]; then
		made_policy=1
		printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
		as_root chmod 755 "$policy"
	fi
	[ -d "$clusters" ] || made_clusters=1
	as_root mkdir -p "$clusters"
	echo "create_main_cluster = false" | as_root tee "$no_cluster" >/dev/null
}

unquieten() {
	trap - EXIT
	[ -z "$made_policy" ] || as_root rm -f "$policy"
	as_root rm -f "$no_cluster"
	# Only where the installation did not get as far as needing the folder.
	[ -z "$made_clusters" ] || dpkg -S "$clusters" >/dev/null 2>&1 || as_root rmdir -p "$clusters" 2>/dev/null || true
}

install_with_apt() {
	packages=$(echo "$1" | sed 's/^redis$/redis-server/' | tr '\n' ' ')
	say "apt-get install $packages(binaries only: no service is started, no cluster is made)"
	log=$(mktemp)
	quieten
	# shellcheck disable=SC2086  # one word a package
	if as_root env DEBIAN_FRONTEND=noninteractive sh -c '
		apt-get -q update && exec apt-get -q -y --no-install-recommends install "$@"' sh $packages >"$log" 2>&1; then
		# The packages enable their services for the next boot, which policy-rc.d has no say in.
		case $packages in *redis-server*) as_root update-rc.d redis-server disable >/dev/null 2>&1 || true ;; esac
		case $packages in *pgbouncer*) as_root update-rc.d pgbouncer disable >/dev/null 2>&1 || true ;; esac
	else
		tail -n 20 "$log" >&2
		say "apt-get did not install $packages"
	fi
	rm -f "$log"
	unquieten
}

install_with_brew() {
	packages=$(echo "$1" | sed 's/^postgresql$/postgresql@17/' | tr '\n' ' ')
	say "brew install $packages"
	# shellcheck disable=SC2086
	brew install --quiet $packages >&2 || say "brew did not install $packages"
}

main() {
	want=$(missing)
	if [ -z "$want" ]; then
		say "Postgres, Redis and PgBouncer are here"
		return
	fi
	if command -v apt-get >/dev/null && can_be_root; then
		install_with_apt "$want"
	elif command -v brew >/dev/null; then
		install_with_brew "$want"
	else
		say "no way to install $(echo "$want" | tr '\n' ' ')from here: it takes root or passwordless sudo with apt-get, or brew"
	fi
	have_postgres || say "no Postgres: the tests download an embedded one (or: apt-get install postgresql)"
	have_pgbouncer || say "no PgBouncer: tests behind it are left out (or: apt-get install pgbouncer)"
	! want_chromium || have_chromium || say "no Chromium: tests of the status page in a browser fail (apt-get install chromium on Debian, or set WTCACHE_TEST_CHROMIUM_BIN)"
	have_redis || say "no Redis: miniredis stands in, and tests that need a real one are left out (or: apt-get install redis-server)"
}

main
