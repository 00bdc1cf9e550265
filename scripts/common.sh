# shellcheck shell=bash
# Common start of all scripts, to be sourced. With --help as the first argument, it prints the head of the script and exits. It
# changes to the top of the repository.
set -euo pipefail

script=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
# shellcheck disable=SC2034 # for the scripts
dist=${ORUN_DIST:-$root/target/dist}
# The shells that orund has completions for, and their files.
# shellcheck disable=SC2034
orund_completions="bash /usr/local/share/bash-completion/completions/orund
zsh /usr/local/share/zsh/site-functions/_orund
fish /usr/local/share/fish/vendor_completions.d/orund.fish"

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
die() {
	printf '%s: error: %s\n' "${script#"$root"/}" "$*" >&2
	exit 1
}

# The comment at the head of the script is its help.
show_help() {
	sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$script"
	exit 0
}

# misused TEXT: exits before the script has changed anything.
misused() {
	printf '%s: error: %s (see %s --help)\n' "${script#"$root"/}" "$*" "${script#"$root"/}" >&2
	exit 2
}
unknown() {
	case $1 in
	-*) misused "unknown option '${1//[![:print:]]/?}'" ;;
	*) misused "unexpected argument '${1//[![:print:]]/?}'" ;;
	esac
}
# has_value "$@": the option $1 is followed by its value.
has_value() { if [ $# -lt 2 ] || [ -z "$2" ]; then misused "option '$1' needs a value"; fi; }
no_arguments() { [ $# = 0 ] || unknown "$1"; }
# harness_options "$@": exits if an argument is not an option of runtime-tests.
harness_options() {
	while [ $# -gt 0 ]; do
		case $1 in
		-h | --help) show_help ;;
		--runtime=* | --filter=* | --exclude=* | --jobs=* | --table=* | --probe=* | --busybox=* | --path=* | --slow=*) ;;
		--runtime | --filter | --exclude | --jobs | --table | --probe | --busybox | --path | --slow) has_value "$@" && shift ;;
		--systemd-cgroup | --quiet | --list) ;;
		*) unknown "$1" ;;
		esac
		shift
	done
}

case ${1:-} in -h | --help) show_help ;; esac

# rustup installs cargo in a directory that is not in the PATH of a non-login shell.
cargo_bin=${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
if ! command -v cargo >/dev/null && [ -x "$cargo_bin/cargo" ]; then
	PATH=$cargo_bin:$PATH
fi

need_root() {
	[ "$(id -u)" = 0 ] || die "must be run as root"
}

# Exits unless the script runs in a guest of scripts/vm, because it changes the machine.
in_guest() { grep -q 'orun\.run=' /proc/cmdline || die "runs only in the guest: use scripts/test-vm"; }

# make_directory DIR: creates it with its parents, and lists the created ones in /var/lib/orun/directories, for scripts/uninstall.
make_directory() {
	[ -d "$1" ] && return
	make_directory "$(dirname "$1")"
	mkdir "$1"
	mkdir -p /var/lib/orun
	printf '%s\n' "$1" >>/var/lib/orun/directories
}

# The mirror of this machine, and Debian's own otherwise.
debian_mirror() {
	# shellcheck disable=SC2016 # apt's own variable
	apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -m 1 '/debian/*$' || echo http://deb.debian.org/debian
}

# Seconds of CPU time of all processes that this shell has waited for: cutime and cstime of proc_pid_stat(5), in hundredths.
cpu_seconds() {
	local stat
	read -r -a stat </proc/$$/stat
	printf '%d\n' $(((stat[15] + stat[16]) / 100))
}

# step WORDS... -- COMMAND...: runs one command under a heading and prints how long it took.
step() {
	local words=() begin=$SECONDS cpu
	cpu=$(cpu_seconds)
	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	shift
	say "${words[*]}"
	"$@" || die "failed: ${words[*]} ($*)"
	printf '%s: passed in %d s, %d s of CPU time\n' "${words[*]}" $((SECONDS - begin)) $(($(cpu_seconds) - cpu)) >&2
}

# with_skips LOG COMMAND...: runs the command and copies its output to the file LOG.
with_skips() {
	local log=$1
	shift
	"$@" 2>&1 | tee "$log"
}

# skips LOG: how many tests printed SKIP.
skips() { grep -c '^SKIP ' "$1" || true; }
