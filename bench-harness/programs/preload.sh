#!/bin/sh
# Real programs under preloaded allocators: prepares what a program works on, and compares it under glibc's malloc and
# libhakmem.so by `bench-harness preload`.
#
#     bench-harness/programs/preload.sh NAME [options of bench-harness preload]
#
# NAME is python, lua, perl, ruby, sqlite, redis, gcc, git or true; interpreters for those of the first four that are
# installed; all for every one that is. What is left out is named. The interpreters run under the rivals as well whose
# libraries are installed (Debian's libjemalloc2, libmimalloc2.0, libtcmalloc-minimal4).
#
# Needs Debian's python3, lua5.4, perl, ruby, sqlite3, redis-server, redis-tools, gcc, git, each for its own; libhakmem.so
# (make -C preload); and bench-harness, which is built if HARNESS does not name one. What the programs work on is made once,
# below ${TMPDIR:-/tmp}/hakmem-preload.
set -eu

usage() {
    echo "usage: $0 python|lua|perl|ruby|interpreters|sqlite|redis|gcc|git|true|all [options of bench-harness preload]" >&2
    exit 2
}

root=$(cd "$(dirname "$0")/../.." && pwd)
work=${TMPDIR:-/tmp}/hakmem-preload
[ $# -ge 1 ] || usage
name=$1
shift

need() {
    command -v "$1" >/dev/null || { echo "$0: $1 is missing; expected Debian's package $2" >&2; exit 2; }
}

command_of() {
    case $1 in
        python) echo /usr/bin/python3 ;;
        lua) echo lua5.4 ;;
        sqlite) echo sqlite3 ;;
        redis) echo redis-server ;;
        *) echo "$1" ;;
    esac
}

if [ -z "${HARNESS:-}" ]; then
    cargo build --release --quiet --manifest-path "$root/Cargo.toml" -p bench-harness
    HARNESS=$root/target/release/bench-harness
fi

# glibc, ours, and every rival whose library is installed.
libraries() {
    list=glibc,hakmem
    for rival in jemalloc=libjemalloc.so.2 mimalloc=libmimalloc.so.3 mimalloc=libmimalloc.so.2 \
        tcmalloc=libtcmalloc_minimal.so.4; do
        path=$(ldconfig -p | awk -v name="${rival#*=}" '$1 == name { print $NF; exit }')
        case $list in *"${rival%%=*}="*) continue ;; esac
        [ -z "$path" ] || list=$list,${rival%%=*}=$path
    done
    echo "$list"
}

# The json module over 10 rounds of a document of some megabytes. PYTHONMALLOC: every block is malloc's, none Python's own.
python() {
    need /usr/bin/python3 python3
    cat > "$work/document.py" <<'END'
import json, random
random.seed(42)
document = [{"id": i, "name": "name %d" % i, "tags": [str(random.randrange(10**6)) for _ in range(8)],
             "value": random.random(), "nested": {"a": [i] * 5, "b": None}} for i in range(15000)]
for _ in range(10):
    document = json.loads(json.dumps(document))
END
    PYTHONMALLOC=malloc "$HARNESS" preload --libraries "$(libraries)" "$@" -- /usr/bin/python3 "$work/document.py"
}

# Tables of strings and of tables, grown, replaced at random and dropped: a game's script, a configuration server.
lua() {
    need lua5.4 lua5.4
    cat > "$work/tables.lua" <<'END'
math.randomseed(42)
local live = {}
for i = 1, 1500000 do
    local k = math.random(60000)
    live[k] = { id = i, name = "name " .. i, points = { i, i + 1, i + 2 }, tag = string.rep("x", i % 97) }
    if i % 7 == 0 then live[math.random(60000)] = nil end
end
END
    "$HARNESS" preload --libraries "$(libraries)" "$@" -- lua5.4 "$work/tables.lua"
}

# A hash of arrays over a generated log, split, counted and sorted: what perl is used for.
perl_() {
    need perl perl
    cat > "$work/log.pl" <<'END'
srand(42);
my %seen;
for my $i (1 .. 700_000) {
    my $line = join ' ', "host" . int(rand 5000), "GET", "/path/" . int(rand 20000), int(rand 90000);
    my @field = split / /, $line;
    push @{ $seen{$field[0]} }, [ $field[2], $field[3] ];
    delete $seen{ "host" . int(rand 5000) } if $i % 50 == 0;
}
my @order = sort { @{ $seen{$b} } <=> @{ $seen{$a} } } keys %seen;
END
    "$HARNESS" preload --libraries "$(libraries)" "$@" -- perl "$work/log.pl"
}

# Objects with strings and hashes, kept in a cache that forgets: a web application.
ruby_() {
    need ruby ruby
    cat > "$work/objects.rb" <<'END'
random = Random.new(42)
Row = Struct.new(:id, :name, :attributes)
cache = {}
700_000.times do |i|
  cache[random.rand(40_000)] = Row.new(i, "name #{i}", { "a" => "x" * (i % 200), "b" => [i, i + 1] })
  cache.delete(random.rand(40_000)) if i % 5 == 0
end
END
    "$HARNESS" preload --libraries "$(libraries)" "$@" -- ruby "$work/objects.rb"
}

# A database of 200 MB built with its indices and asked.
sqlite() {
    need sqlite3 sqlite3
    status=0
    "$HARNESS" preload --runs 5 --stdin "$root/preload/tests/programs/database.sql" "$@" \
        -- sh -c "rm -f '$work/test.db'; exec sqlite3 '$work/test.db'" || status=$?
    rm -f "$work/test.db"
    return $status
}

# SET and GET by redis-benchmark over a socket. Debian's redis is linked with jemalloc, so glibc's malloc has to be
# preloaded too: its libc comes first in line then.
redis() {
    need redis-server redis-server
    need redis-benchmark redis-tools
    libc=$(ldd "$(command -v redis-server)" | awk '$1 == "libc.so.6" { print $3 }')
    cat > "$work/redis.sh" <<'END'
#!/bin/sh
set -eu
dir=$(mktemp -d)
trap 'kill $server 2>/dev/null || true; rm -rf "$dir"' EXIT
redis-server --port 0 --unixsocket "$dir/s" --dir "$dir" --save '' --daemonize no >/dev/null &
server=$!
until redis-cli -s "$dir/s" ping >/dev/null 2>&1; do sleep 0.02; done
redis-benchmark -s "$dir/s" -q -t set,get -n 400000 -r 200000 -d 200 -P 16 -c 20
redis-cli -s "$dir/s" shutdown nosave
wait $server
END
    chmod +x "$work/redis.sh"
    "$HARNESS" preload --libraries "glibc=$libc,hakmem" --metric-from 'SET: ([0-9.]+) requests' \
        --metric-from 'GET: ([0-9.]+) requests' "$@" -- "$work/redis.sh"
}

# One C file of some 15,000 lines, optimised.
gcc_() {
    need gcc gcc
    awk 'BEGIN {
        print "#include <stdint.h>\n#include <stdio.h>\n#include <string.h>";
        for (i = 0; i < 800; i++) {
            printf "struct s%d { uint64_t a[%d]; char b[%d]; };\n", i, i % 13 + 1, i % 29 + 1;
            printf "uint64_t f%d(struct s%d *p, uint64_t n) {\n    uint64_t x = n * %du;\n", i, i, i * 2 + 1;
            printf "    for (uint64_t k = 0; k < n; k++) {\n        x ^= p->a[k %% %d] + (x >> %d);\n", i % 13 + 1, i % 31 + 1;
            printf "        switch (x %% 7) {\n        case 0: x += %d; break;\n        case 1: x *= 3; break;\n", i;
            printf "        case 2: memset(p->b, (int)x, sizeof p->b); break;\n        default: x -= p->b[k %% %d];\n", i % 29 + 1;
            printf "        }\n    }\n    return x;\n}\n";
        }
        print "int main(void) { uint64_t x = 0;";
        for (i = 0; i < 800; i++) printf "    { struct s%d s = {{0}}; x += f%d(&s, x & 15); }\n", i, i;
        print "    return (int)x; }";
    }' > "$work/large.c"
    "$HARNESS" preload --runs 5 "$@" -- gcc -O1 -S -o /dev/null "$work/large.c"
}

# The history of a generated repository: read, packed anew, checked.
git_() {
    need git git
    if [ ! -d "$work/repository/.git" ]; then
        rm -rf "$work/repository"
        git init -q -b main "$work/repository"
        (
            cd "$work/repository"
            git config gc.auto 0
            git config user.name test
            git config user.email test@example.org
            for i in $(seq 1 120); do
                awk -v n="$i" 'BEGIN { srand(n); for (i = 0; i < 400; i++) print i, int(rand() * 100000) }' > "file$((i % 40))"
                awk -v n="$i" 'BEGIN { for (i = 0; i < 3000; i++) print i, (i % n == 0 ? "changed " n : "same") }' > common
                git add -A
                git commit -q -m "change $i"
            done
        )
    fi
    "$HARNESS" preload --runs 7 "$@" -- sh -c "cd '$work/repository' && git log -p --stat >/dev/null && \
git repack -adfq --threads=2 --window=30 && git fsck --no-progress && git blame common >/dev/null"
}

# What it costs to be there at all.
true_() {
    "$HARNESS" preload --runs 200 "$@" -- /bin/true
}

mkdir -p "$work"
case $name in
    python | lua | sqlite | redis) "$name" "$@" ;;
    gcc | git | perl | ruby | true) "${name}_" "$@" ;;
    interpreters | all)
        ones='python lua perl ruby'
        [ "$name" = interpreters ] || ones="$ones sqlite redis gcc git true"
        missing=
        for one in $ones; do
            command -v "$(command_of "$one")" >/dev/null || { missing="$missing $one"; continue; }
            HARNESS=$HARNESS "$0" "$one" "$@"
            echo
        done
        [ -z "$missing" ] || echo "$0: not installed here, left out:$missing" >&2
        ;;
    *) usage ;;
esac
