#!/bin/sh
# What checked and guarded blocks cost whole programs: instructions by callgrind in millions, and peak memory in KiB, with all
# checks off, by default, with every block checked, and under the hardened profile. Prints the table of docs/hardening.md:
#
#     bench-harness/programs/checks.sh > bench-harness/results/checks.md && bench-harness pages
#
# Needs libhakmem.so (make -C preload) and Debian's valgrind, time, git, perl, sqlite3 and gcc. Counts are exact but for the
# environment and the addresses that the kernel draws.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
library=$root/preload/target/release/libhakmem.so
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir directory
for i in $(seq 1 200); do echo "$i" > "directory/file$i"; done
git init -q -b main repository
{
    for i in $(seq 1 300); do
        printf 'commit refs/heads/main\ncommitter a <a@b> %d +0000\ndata <<.\nchange %d\n.\n' $((1700000000 + i)) "$i"
        printf 'M 100644 inline file%d\ndata <<.\n%d\n.\n' $((i % 20)) "$i"
    done
} | git -C repository fast-import --quiet
printf 'my %%h; $h{"key $_"} = "value $_" for 1 .. 30_000; print scalar keys %%h;' > hash.pl
{
    echo 'create table t (a integer, b text);'
    echo 'with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) insert into t select i, hex(i * 7919) from n;'
    echo 'create index i on t (b); select count(*) from t where b > 5;'
} > rows.sql
for i in $(seq 1 40); do echo "int f$i(int n) { int s = 0; for (int k = 0; k < n; k++) s += k * $i; return s; }"; done > code.c
compiler=$(gcc -print-prog-name=cc1)

# one SETTINGS COMMAND...: its instructions in millions, and its peak in KiB. The last of three runs counts: what a program keeps
# in files is there by then.
one() {
    settings=$1
    shift
    set -- env $settings LD_PRELOAD="$library" "$@"
    for _ in 1 2; do "$@" < "${input:-/dev/null}" > /dev/null; done
    /usr/bin/time -o peak -f %M "$@" < "${input:-/dev/null}" > /dev/null
    valgrind --tool=callgrind --trace-children=yes --callgrind-out-file=/dev/null "$@" < "${input:-/dev/null}" 2> counted > /dev/null
    awk '/Collected/ { last = $NF } END { printf "%.*f ", last < 1e8 ? 2 : 1, last / 1e6 }' counted
    cat peak
}

# row WORDS COMMAND...
row() {
    words=$1
    shift
    counts= peaks=
    for settings in 'HAKMEM_CHECK_ONE_IN=0 HAKMEM_GUARD_EVERY=0' '' HAKMEM_CHECK_ONE_IN=1 HAKMEM_PROFILE=hardened; do
        figures=$(one "$settings" "$@")
        counts="$counts | ${figures% *}" peaks="$peaks | ${figures#* }"
    done
    echo "| $words$counts$peaks |"
}

echo '| program | off | default | all | hardened | peak off | default | all | hardened |'
echo '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |'
row '`true`' /bin/true
row '`ls -lR` of 200 files' ls -lR directory
row '`git log -p` of 300 commits' git -C repository log -p
row 'perl, a hash of 30,000' perl hash.pl
input=rows.sql row 'sqlite3, 20,000 rows and an index' sqlite3
row '`gcc -O1`, the compiler alone, 40 functions' "$compiler" -O1 -quiet -o /dev/null code.c
