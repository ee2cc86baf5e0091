#!/bin/busybox sh
# The first process of the guest: runs the gateway with the kernel's TLS and talks to it. Says `ktls: ...` of each thing that holds, and at the
# end whether all did.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ip link set lo up
ip link set eth0 up 2>/dev/null
failures=0

holds() {
    echo "ktls: $*"
}

fails() {
    echo "ktls: FAILED: $*"
    failures=$((failures + 1))
}

# expect WHAT TEST...
expect() {
    what=$1
    shift
    if "$@"; then holds "$what"; else fails "$what"; fi
}

# A counter of the kernel's TLS.
stat() {
    awk -v name="$1" '$1 == name { print $2 }' /proc/net/tls_stat
}

# A metric of the gateway.
metric() {
    curl -s http://127.0.0.1:9901/metrics | awk -v name="$1" 'index($1, name) == 1 { n += $2 } END { print n + 0 }'
}

# The connections that the gateway has counted by now: it adds them up four times a second.
counted() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ "$(metric ferrogate_ktls_connection_total)" -lt "$1" ] || return 0
        sleep 0.3
    done
    return 1
}

fetch() {
    curl -sS --max-time 60 --cacert /etc/server.crt "$@"
}

# start KTLS: the gateway, until it serves.
start() {
    sed "s/ktls: require/ktls: $1/" /etc/gateway.yaml >/tmp/gateway.yaml
    ferrogate start -c /tmp/gateway.yaml >"/tmp/log.$1" 2>&1 &
    gateway=$!
    for _ in $(seq 100); do
        ! fetch -o /dev/null https://localhost:8443/mib 2>/dev/null || return 0
        kill -0 "$gateway" 2>/dev/null || break
        sleep 0.2
    done
    cat "/tmp/log.$1"
    return 1
}

stop() {
    kill -TERM "$gateway"
    wait "$gateway"
}

without_the_module() {
    # The kernel loads it by itself for root; here it can't.
    echo /bin/false >/proc/sys/kernel/modprobe
    ferrogate start -c /etc/gateway.yaml >/tmp/refused 2>&1
    expect "without the module 'require' is no start" test "$?" -eq 1
    expect "it names the remedy" grep -q "modprobe tls" /tmp/refused
    grep "modprobe tls" /tmp/refused
    start auto || fails "'auto' starts without the module"
    expect "'auto' serves without it" fetch -o /dev/null https://localhost:8443/mib
    expect "and says so" grep -q "sealed in this process, not by the kernel" /tmp/log.auto
    stop
    echo /bin/modprobe >/proc/sys/kernel/modprobe
}

every_suite() {
    served=$(metric ferrogate_ktls_connection_total)
    for suite in "--tls-max 1.2 --ciphers ECDHE-ECDSA-AES128-GCM-SHA256" "--tls-max 1.2 --ciphers ECDHE-ECDSA-AES256-GCM-SHA384" \
        "--tls-max 1.2 --ciphers ECDHE-ECDSA-CHACHA20-POLY1305" "--tlsv1.3 --tls13-ciphers TLS_AES_128_GCM_SHA256" \
        "--tlsv1.3 --tls13-ciphers TLS_AES_256_GCM_SHA384" "--tlsv1.3 --tls13-ciphers TLS_CHACHA20_POLY1305_SHA256"; do
        # Down, up, and down again on one connection.
        # shellcheck disable=SC2086 # words
        fetch $suite -o /tmp/one https://localhost:8443/mib --next -sS --max-time 60 --cacert /etc/server.crt $suite -o /tmp/digest \
            -H 'Expect:' --data-binary @/www/mib https://localhost:8443/cgi-bin/digest --next -sS --max-time 60 --cacert /etc/server.crt $suite \
            -o /tmp/two https://localhost:8443/mib
        if cmp /tmp/one /www/mib && cmp /tmp/two /www/mib && [ "$(cat /tmp/digest)" = "$(sha256sum </www/mib)" ]; then
            holds "1 MiB down, up and down with $suite"
        else
            fails "1 MiB with $suite"
        fi
        served=$((served + 1))
    done
    expect "each was one connection of the kernel's" counted "$served"
}

# What is no data: alerts of both sides, a key update, a renegotiation.
other_records() {
    (printf 'GET /mib HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' && sleep 3) |
        openssl s_client -connect 127.0.0.1:8443 -servername localhost -CAfile /etc/server.crt -verify_return_error -tls1_3 -quiet >/tmp/close 2>/tmp/close.err
    expect "close_notify ends an answer for openssl" test "$?" -eq 0
    expect "which has come whole" test "$(wc -c </tmp/close)" -gt 1048576
    follows=$(awk -v release="$(uname -r)" 'BEGIN { split(release, v, "."); print (v[1] > 6 || (v[1] == 6 && v[2] >= 14)) ? 2 : 1 }')
    asks -tls1_3 K KEYUPDATE "$follows"
    asks -tls1_2 R RENEGOTIATING 1
    expect "tickets of TLS 1.3 resume" resumes
    expect "the gateway lives on" fetch -o /dev/null https://localhost:8443/mib
}

# asks VERSION KEY WORD ANSWERS: two requests, with what s_client does by a key in between; how many are answered.
asks() {
    before=$(stat TlsDecryptError)
    request='GET /cgi-bin/none HTTP/1.1\r\nHost: localhost\r\n\r\n'
    # shellcheck disable=SC2059 # the format is the request
    (printf "$request" && sleep 2 && echo "$2" && sleep 2 && printf "$request" && sleep 2) |
        timeout 30 openssl s_client -connect 127.0.0.1:8443 -servername localhost -CAfile /etc/server.crt "$1" >/tmp/asked 2>&1
    expect "$3 was sent" grep -q "$3" /tmp/asked
    expect "and of two requests around it $4 answered" test "$(grep -c "HTTP/1.1 404" /tmp/asked)" = "$4"
    expect "and no record was opened with a wrong key" test "$(stat TlsDecryptError)" = "$before"
}

resumes() {
    (printf 'GET /cgi-bin/none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' && sleep 2) |
        openssl s_client -connect 127.0.0.1:8443 -servername localhost -CAfile /etc/server.crt -tls1_3 -sess_out /tmp/session >/dev/null 2>&1
    (printf 'GET /cgi-bin/none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' && sleep 2) |
        openssl s_client -connect 127.0.0.1:8443 -servername localhost -CAfile /etc/server.crt -tls1_3 -sess_in /tmp/session 2>&1 | grep -q "^Reused, TLSv1.3"
}

# A connection that is open now is the kernel's.
open_now() {
    (printf 'GET /cgi-bin/none HTTP/1.1\r\nHost: localhost\r\n\r\n' && sleep 3) |
        openssl s_client -connect 127.0.0.1:8443 -servername localhost -CAfile /etc/server.crt -quiet >/dev/null 2>&1 &
    client=$!
    sleep 2
    expect "of a connection that is open the kernel has both directions" test "$(stat TlsCurrTxSw)-$(stat TlsCurrRxSw)" = 1-1
    wait "$client"
}

# measure KTLS: what a MiB costs the gateway, in both directions.
measure() {
    start "$1" || return 1
    for what in down up; do
        before=$(ticks)
        for _ in 1 2 3 4; do
            case $what in
                down) fetch -o /dev/null "https://localhost:8443/mib?[1-40]" ;;
                up) fetch -o /dev/null -H 'Expect:' --data-binary @/www/mib "https://localhost:8443/cgi-bin/digest?[1-10]" ;;
            esac
        done
        echo "ktls: measured: $1, $what: $(($(ticks) - before)) ticks of CPU time (user $user, system $system in all)"
    done
    stop
}

# CPU time of the gateway in hundredths of a second.
ticks() {
    # shellcheck disable=SC2046 # words
    set -- $(sed 's/.*) //' "/proc/$gateway/stat")
    user=${12} system=${13}
    echo $((user + system))
}

echo "ktls: Linux $(uname -r)"
httpd -p 127.0.0.1:8080 -h /www
without_the_module
modprobe tls || fails "the module can't be loaded"
if start require; then
    expect "the gateway says what the kernel seals" grep "the kernel seals the records of TLS" /tmp/log.require
    every_suite
    other_records
    open_now
    sed 's/^/ktls: tls_stat: /' /proc/net/tls_stat
    expect "the kernel has sealed and opened for each connection" test "$(stat TlsTxSw)" -ge 10 -a "$(stat TlsTxSw)" = "$(stat TlsRxSw)"
    expect "and has refused nothing" test "$(stat TlsDecryptError)" = 0
    stop
    expect "the gateway ends well" test "$?" -eq 0
else
    fails "the gateway starts with 'ktls: require'"
fi
if grep -q "ktls_measure=." /proc/cmdline; then
    for round in 1 2 3; do
        echo "ktls: round $round"
        measure off
        measure require
    done
fi
if [ "$failures" = 0 ]; then
    echo "KTLS-TEST PASSED"
else
    cat /tmp/log.require
    echo "KTLS-TEST FAILED: $failures"
fi
sync
poweroff -f
