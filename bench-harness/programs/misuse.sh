#!/bin/sh
# What becomes of mistakes under different allocators: each of misuse.c five times under libhakmem.so, without samples and with every
# block checked, under glibc's malloc, and under every rival whose library is installed (Debian's libjemalloc2, libmimalloc2.0,
# libtcmalloc-minimal4). Prints the table of docs/hardening.md:
#
#     bench-harness/programs/misuse.sh > bench-harness/results/misuse.md && bench-harness pages
#
# Needs libhakmem.so (make -C preload) and gcc. By default a mistake may also meet a checked or guarded block, which is chosen by chance.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
ours=$root/preload/target/release/libhakmem.so
[ -e "$ours" ] || { echo "$0: $ours is missing; make -C preload builds it" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
gcc -O1 -fno-builtin -pthread -w -o "$work/misuse" "$root/bench-harness/programs/misuse.c"
cd "$work"

# fate SETTINGS LIBRARY MISTAKE: in a word.
fate() {
    status=0
    env $1 ${2:+LD_PRELOAD="$2"} timeout 60 ./misuse "$3" 2> said > /dev/null || status=$?
    case $status in
        0) echo '–' ;;
        3) echo 'corrupted' ;;
        4) echo 'null' ;;
        124) echo 'hangs' ;;
        134) [ -s said ] && echo '**named**' || echo 'aborted' ;;
        *) echo "signal $((status - 128))" | sed 's/signal 11/SIGSEGV/; s/signal 4$/SIGILL/; s/signal 5$/SIGTRAP/' ;;
    esac
}

set -- 'hakmem|HAKMEM_CHECK_ONE_IN=0 HAKMEM_GUARD_EVERY=0|'"$ours" "hakmem, all checked|HAKMEM_CHECK_ONE_IN=1|$ours" 'glibc||'
for rival in jemalloc=libjemalloc.so.2 mimalloc=libmimalloc.so.3 mimalloc2=libmimalloc.so.2 tcmalloc=libtcmalloc_minimal.so.4; do
    path=$(ldconfig -p | awk -v name="${rival#*=}" '$1 == name { print $NF; exit }')
    [ -z "$path" ] || set -- "$@" "${rival%%=*}||$path"
done

line='| mistake |' rule='| --- |'
for column; do line="$line ${column%%|*} |" rule="$rule --- |"; done
printf '%s\n%s\n' "$line" "$rule"
./misuse > mistakes
while read -r mistake; do
    line="| $mistake |"
    for column; do
        rest=${column#*|}
        # Where the kernel's random addresses decide, there may be several.
        fates=$(for _ in 1 2 3 4 5; do fate "${rest%%|*}" "${rest#*|}" "$mistake"; done | sort -u | sed -n 'H; ${g; s/^\n//; s/\n/ or /g; p}')
        line="$line $fates |"
    done
    echo "$line"
done < mistakes
