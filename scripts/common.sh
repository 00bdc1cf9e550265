# shellcheck shell=bash
# What every script here starts with. Source it; it leaves the working directory at the top of the repository.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
dist=$root/target/dist
# The shells that orund has completions for, and their files.
# shellcheck disable=SC2034
orund_completions="bash /usr/local/share/bash-completion/completions/orund
zsh /usr/local/share/zsh/site-functions/_orund
fish /usr/local/share/fish/vendor_completions.d/orund.fish"

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
die() {
	printf '%s: error: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

# rustup puts cargo where a non-login shell does not look.
if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
	PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
fi

need_root() {
	[ "$(id -u)" = 0 ] || die "run it as root: containers with limits and devices need it"
}

# The mirror of this machine, and Debian's own otherwise.
debian_mirror() {
	apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -m 1 '/debian/*$' || echo http://deb.debian.org/debian
}

# step WORDS... -- COMMAND...: runs one command under a heading and prints how long it took.
step() {
	local words=() begin=$SECONDS
	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	shift
	say "${words[*]}"
	"$@" || die "failed: ${words[*]} ($*)"
	printf '%s: passed in %d s\n' "${words[*]}" $((SECONDS - begin)) >&2
}

# with_skips LOG COMMAND...: runs the command and copies its output to the file LOG.
with_skips() {
	local log=$1
	shift
	"$@" 2>&1 | tee "$log"
}

# skips LOG: how many tests printed SKIP.
skips() { grep -c '^SKIP ' "$1" || true; }
