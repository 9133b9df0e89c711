# Many guests at once, each with a console and a disk; XMANY of them.
. /tests/report.sh
. /tests/domus.sh

LIMIT=300
AWAIT=1500
start_backends
start_counting
all=$(numbered g "${XMANY:-30}")
for name in $all; do
    echo "the disk of $name" >"/run/disk.$name"
    truncate -s 1M "/run/disk.$name"
    configure "$name" 96 "disk = ['file:/run/disk.$name,xvda,w']"
    runs xl create "/tmp/$name.cfg"
    show_console "$name"
    open_console "$name"
done
for name in $all; do
    if await_line "$name" GUEST-READY "$AWAIT"; then
        ok "$name is up"
    else
        fail "$name is up" "GUEST-READY was not printed"
    fi
done
runs xl list
equal "xl list's rows" "$(echo "$OUT" | tail -n +2 | wc -l)" $((${XMANY:-30} + 1))
for name in $all; do
    equal "$name reads its own disk" "$(guest "$name" 'head -n 1 /dev/xvda')" "the disk of $name"
    guest "$name" "echo 'written by $name' | dd of=/dev/xvda bs=512 seek=8 conv=sync oflag=direct" >/dev/null
done
for name in $all; do
    equal "$name wrote to its own disk" "$(tail -c +4097 "/run/disk.$name" | head -n 1)" "written by $name"
done
# Not with -w: xl frees what waits for a guest twice if that has shut down and is gone before xl looks.
runs xl shutdown -a
for name in $all; do
    eventually "$name has gone" 120 gone "$name"
    close_console "$name"
done
eventually "no back end is left" 60 no_backends
eventually "all memory is free again" 30 all_free 32
finish
