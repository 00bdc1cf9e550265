#!/usr/bin/env bash
# ordered-cc.sh: the linker of scripts/build with ORUN_ORDERED: cc, with the functions of orun in the order in which they are executed.
# scripts/order makes the order (scripts/order.txt). It has the names as people read them: those for the linker change with
# every version of the compiler. What is executed then lies together.
# Where the linker knows no order, or the order has no name that fits, the program is linked without one.
set -euo pipefail
order=$(dirname "$0")/order.txt
output='' objects=()
for ((i = 1; i <= $#; i++)); do
	case ${!i} in
	-o)
		next=$((i + 1))
		output=${!next}
		;;
	*.o | *.rlib) objects+=("${!i}") ;;
	esac
done
# The toolchain's own linker, lld, where it has one.
lld=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/gcc-ld
name=$(basename "$output")
if [ ! -x "$lld/ld.lld" ] || [ ! -s "$order" ] || [[ ! $name =~ ^orun-[0-9a-f]+$ ]]; then exec cc "$@"; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# readable FILE: symbols as people read them, without hashes, as scripts/order writes them.
readable() { c++filt <"$1" | sed 's/\[[0-9a-f]*\]//g;s/::h[0-9a-f]\{16\}$//'; }
{ nm --defined-only --format=just-symbols "${objects[@]}" 2>/dev/null || true; } | sed '/:$/d;/^$/d' | sort -u >"$work/symbols"
readable "$work/symbols" | paste -d '\t' - "$work/symbols" >"$work/table"
# Each line of the order becomes all symbols of that name, or stays: then it is one of the C library's.
awk -F '\t' -v found="$work/found" '
	NR == FNR { symbols[$1] = symbols[$1] $2 "\n"; next }
	$0 in symbols { printf "%s", symbols[$0]; hits++; next }
	{ print; if ($0 ~ /::/) misses++ }
	END { printf "%d %d\n", hits, misses >found }' "$work/table" "$order" >"$work/order"
read -r hits misses <"$work/found"
if ((hits * 10 < (hits + misses) * 8)); then
	printf 'scripts/ordered-cc.sh: %d of %d functions of scripts/order.txt do not exist any more: run scripts/order\n' "$misses" $((hits + misses)) >&2
fi
cc "$@" "-B$lld" -fuse-ld=lld "-Wl,--symbol-ordering-file=$work/order" -Wl,--no-warn-symbol-ordering || exec cc "$@"
