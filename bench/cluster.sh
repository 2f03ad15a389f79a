#!/usr/bin/env bash
# cluster.sh COUNT COMMAND ARGUMENT...: runs stoker over COUNT network namespaces of this machine,
# which see each other only through a bridge, like machines on a switch.
#
#   bench/cluster.sh 2 bench models/stories-q4_0.gguf --quick
#   STOKER=build/stoker bench/cluster.sh 4 run MODEL -p Hello -n 20
#   bench/cluster.sh -- setup 2      only sets them up; prints the mpirun command to use
#   bench/cluster.sh -- remove 2     takes them down
#
# Needs root and mpirun. Exit code 77: namespaces cannot be made here. Names start with $STK_NET
# (default "stk"), so that two at once need not meet.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
stoker=${STOKER:-$here/build/stoker}
name=${STK_NET:-stk}
state=/tmp/$name-net
net=10.77.$(($(printf %s "$name" | cksum | cut -d' ' -f1) % 256)) # one for each name

remove() # COUNT
{
    local i pid
    for i in $(seq "$1"); do
        for pid in $(ip netns pids "$name$i" 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done
        ip link del "${name}v$i" 2>/dev/null
        ip netns del "$name$i" 2>/dev/null
    done
    ip link del "${name}br" 2>/dev/null
    rm -rf "$state"
}

setup() # COUNT
{
    local i
    ip netns add "${name}probe" 2>/dev/null || return 77
    ip netns del "${name}probe"
    mkdir -p "$state"
    ip link add "${name}br" type bridge && ip addr add $net.254/24 dev "${name}br" &&
        ip link set "${name}br" up || return 77
    : >"$state/hosts"
    for i in $(seq "$1"); do
        ip netns add "$name$i" && ip link add "${name}v$i" type veth peer name eth0 netns "$name$i" &&
            ip link set "${name}v$i" master "${name}br" up &&
            ip -n "$name$i" addr add "$net.$i/24" dev eth0 &&
            ip -n "$name$i" link set eth0 up && ip -n "$name$i" link set lo up || return 77
        echo "$net.$i slots=1" >>"$state/hosts"
    done
    # In place of ssh: mpirun calls it with options, a host and a command.
    cat >"$state/agent" <<EOF
#!/bin/sh
while [ "\${1#-}" != "\$1" ]; do shift; done
host=\$1; shift
case \$host in $net.*) host=$name\${host##*.} ;; esac
exec ip netns exec "\$host" unshare --uts sh -c "hostname \$host; export TMPDIR=$state/\$host; mkdir -p \\\$TMPDIR; \$*"
EOF
    chmod +x "$state/agent"
}

launcher() # COUNT
{
    printf '%s ' mpirun --allow-run-as-root --hostfile "$state/hosts" -np "$1" --map-by node \
        --bind-to none --mca plm_rsh_agent "$state/agent" --mca oob_tcp_if_include $net.0/24 \
        --mca btl_tcp_if_include $net.0/24 --mca btl self,tcp --mca mpi_yield_when_idle 1 \
        --mca oob_tcp_keepalive_time 2 --mca oob_tcp_keepalive_intvl 1 \
        --mca oob_tcp_keepalive_probes 3
}

command -v mpirun >/dev/null && command -v ip >/dev/null || exit 77
case ${1:-} in
--)
    case ${2:-} in
    setup) setup "$3" || { remove "$3" && exit 77; } && launcher "$3" && echo ;;
    remove) remove "$3" ;;
    esac
    ;;
[0-9]*)
    count=$1
    shift
    trap 'remove "$count"' EXIT
    setup "$count" || exit 77
    # shellcheck disable=SC2046 # words
    $(launcher "$count") "$stoker" "$@"
    ;;
*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
