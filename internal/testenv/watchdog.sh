# Owns a temporary folder and the processes that live in it.
#
# $1     the folder; it must not exist yet
# $2     its owner as uid:gid, or empty
# stdin  "+PID" when a process was started, "-PID" when it was reaped
#
# Answers "ready" once the folder exists. The end of stdin means that the owner of the pipe is gone, however it went:
# the processes are then stopped, and the folder and Postgres' shared memory are removed.

# A terminal's Ctrl-C and a killed session reach this process too, and its answer may find nobody to read it; it must outlive
# all that to clean up.
trap '' HUP INT PIPE QUIT TERM
umask 077

dir=$1
mkdir "$dir" || exit 1
if [ -n "$2" ]; then chown "$2" "$dir" || { rmdir "$dir"; exit 1; }; fi
# Inheriting the caller's folder would keep it busy.
cd / || exit 1
echo ready
exec >/dev/null 2>&1

pids=
while read -r line; do
	pid=${line#?}
	case $line in
	+*) pids="$pids $pid" ;;
	-*)
		rest=
		for p in $pids; do [ "$p" = "$pid" ] || rest="$rest $p"; done
		pids=$rest
		;;
	esac
done

# A process leads a group of its own (initdb has children), except a command that shares its caller's terminal.
send() {
	for p in $pids; do kill -s "$1" -- "-$p" || kill -s "$1" "$p"; done
}

# A zombie counts as gone: the first process of a container often reaps nobody.
running() {
	for p in $pids; do
		kill -0 "$p" || continue
		case $(cat "/proc/$p/stat") in *") Z "*) continue ;; esac
		return 0
	done
	return 1
}

# A stopped process acts on a signal only when it continues. SIGINT is Postgres' fast shutdown, which frees its shared
# memory; SIGKILL would leave it.
send INT
send CONT
tries=0
while running && [ $tries -lt 200 ]; do
	sleep 0.05
	tries=$((tries + 1))
done
send KILL

# The file is still there only where Postgres was killed. Its seventh line holds the key and the id of the segment.
for f in "$dir"/*/data/postmaster.pid; do
	[ -f "$f" ] || continue
	id=$(sed -n '7s/.* //p' "$f")
	[ -z "$id" ] || ipcrm -m "$id"
done

# The last breath of a killed server may still write a file while its folder goes.
tries=0
while [ -e "$dir" ] && [ $tries -lt 100 ]; do
	rm -rf "$dir" && break
	sleep 0.05
	tries=$((tries + 1))
done
