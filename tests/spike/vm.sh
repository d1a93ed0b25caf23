#!/bin/bash
# vm.sh 'COMMAND': run COMMAND in a throw-away VM that has a SoftRoCE device, rxe0.
#
# The guest sees this machine's root file system read-only under a tmpfs overlay: it runs the binaries
# just built, at the same paths, in the current directory, and can change nothing outside.
# stdout: what COMMAND prints. stderr: the kernel version and the kernel's complaints, if any.
# Exit status: COMMAND's; 124 = out of time; 125 = the VM could not be built, or died before COMMAND ended.
#
# Environment: RXE_TIMEOUT  seconds for boot and COMMAND together (120)
#              RXE_SERIES   kernel series, 6.12 or 6.1 (6.12)
#              RXE_CACHE    kernel, modules, initramfs (build/rxe); delete it to get a newer kernel
#              RXE_QEMU     more QEMU arguments, split at blanks
# Packages: qemu-system-x86 busybox-static cpio kmod xz-utils rdma-core ibverbs-providers iproute2;
#           for trying it out ibverbs-utils rdmacm-utils perftest.
set -euo pipefail

die() { echo "vm.sh: $*" >&2; exit 125; }
[ $# = 1 ] || die "usage: vm.sh 'COMMAND'"
self=$(realpath "$0")
series=${RXE_SERIES:-6.12}
case $series in
6.12) pattern='^linux-image-6\.12\.[0-9]+\+deb12-amd64$' ;;
6.1)  pattern='^linux-image-6\.1\.0-[0-9]+-amd64$' ;;
*)    die "RXE_SERIES is 6.12 or 6.1" ;;
esac
cache=$(realpath -m "${RXE_CACHE:-$(dirname "$self")/../../build/rxe}")/$series
mkdir -p "$cache"

# The newest kernel of the series. Old ones leave the archive, so no version can be pinned: print it instead.
fetch_kernel() {
	local package new=$cache/new
	package=$(apt-cache pkgnames | grep -E "$pattern" | sort -V | tail -n 1) || die "no package matches $pattern"
	rm -rf "$new" && mkdir "$new" && cd "$new"
	apt-get -qq -o APT::Sandbox::User=root download "$package"
	echo "$package $(dpkg-deb -f ./*.deb Version)" > package
	dpkg-deb -x ./*.deb . && rm ./*.deb
	local release=${package#linux-image-}
	depmod -b "$new" "$release"
	mv "boot/vmlinuz-$release" vmlinuz
	echo "$release" > release
	rm -rf "$cache/kernel" && mv "$new" "$cache/kernel"
}

# The initramfs only mounts the root and goes on there with stage2; every other module comes from the cache by modprobe.
build_initramfs() {
	local dir=$cache/initramfs release module
	release=$(cat "$cache/kernel/release")
	rm -rf "$dir" && mkdir -p "$dir"/{dev,lower,upper,root} && cd "$dir"
	cp /bin/busybox busybox
	for module in virtio_pci 9pnet_virtio 9p overlay; do
		modprobe -d "$cache/kernel" -S "$release" --show-depends "$module"
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' > list
	while read -r module; do
		case $module in
		*.xz) xz -dc "$module" > "$(basename "$module" .xz)" ;;
		*)    cp "$module" . ;;
		esac
		echo "/busybox insmod /$(basename "$module" .xz)"
	done < list > insmods
	cat > init <<-END
		#!/busybox sh
		$(cat insmods)
		/busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose root /lower
		/busybox mount -t tmpfs tmpfs /upper
		/busybox mkdir /upper/upper /upper/work
		/busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work overlay /root
		exec /busybox switch_root /root /bin/sh "\$RXE_JOB/stage2"
	END
	chmod +x init
	find . | cpio -o -H newc --quiet | gzip -1 > "$cache/initrd.new"
	mv "$cache/initrd.new" "$cache/initrd"
}

(
	flock 9
	[ -d "$cache/kernel" ] || fetch_kernel
	[ "$cache/initrd" -nt "$cache/kernel/release" ] && [ "$cache/initrd" -nt "$self" ] || build_initramfs
) 9> "$cache/lock" || die "cannot make the kernel or the initramfs"
echo "vm.sh: kernel $(cat "$cache/kernel/package")" >&2

job=$(mktemp -d "$cache/job.XXXXXX")
qemu=
trap '[ -z "$qemu" ] || kill "$qemu" 2> /dev/null || :; rm -rf "$job"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The command's output has ttyS1 for itself; the kernel log and the status go to ttyS0.
printf '%s\n' "$1" > "$job/command"
cat > "$job/stage2" <<END
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
modules=$(printf %q "$cache/kernel/lib/modules") job=$(printf %q "$job") cwd=$(printf %q "$PWD")
END
cat >> "$job/stage2" <<'END'
mount -t devtmpfs dev /dev
exec < /dev/null > /dev/ttyS0 2>&1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /dev/pts /dev/shm /lib/modules
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount --bind "$modules" /lib/modules
dmesg -n 8          # from here on every kernel message reaches the console, and so the host, even if the guest hangs
stty -F /dev/ttyS1 raw -echo
ulimit -l unlimited

setup() {
	# rxe cannot be created without a crc32 shash, which is no dependency of the module.
	modprobe -a crc32_generic crc32_pclmul veth rdma_rxe ib_uverbs rdma_cm rdma_ucm &&
	ip link set lo up &&
	ip link add ve0 mtu 9000 type veth peer name ve1 mtu 9000 &&
	ip addr add 10.9.0.1/24 dev ve0 &&
	ip addr add 10.9.0.2/24 dev ve1 &&
	ip link set ve0 up &&
	ip link set ve1 up &&
	rdma link add rxe0 type rxe netdev ve0
}
if setup; then
	cd "$cwd" && /bin/sh -c "$(cat "$job/command")" > /dev/ttyS1 2>&1
	status=$?
else
	status=setup-failed
fi
stty -F /dev/ttyS1 raw    # waits until the output has left
dmesg -n 1
printf '\nRXE-STATUS %s\n' "$status"
stty -F /dev/ttyS0 onlcr
sleep 60 &          # not later: while the machine goes down nothing can be read from the root any more
echo o > /proc/sysrq-trigger
wait
END

: > "$job/output"
timeout --foreground -k 5 "${RXE_TIMEOUT:-120}" \
	qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu max -smp 2 -m 4G -nodefaults -display none -no-reboot \
	-serial "file:$job/console" -serial "file:$job/output" \
	-virtfs local,path=/,security_model=none,readonly=on,mount_tag=root,multidevs=remap \
	-kernel "$cache/kernel/vmlinuz" -initrd "$cache/initrd" \
	-append "console=ttyS0 loglevel=5 panic=-1 mitigations=off RXE_JOB=$job" \
	${RXE_QEMU:-} < /dev/null >&2 &
qemu=$!
tail -f -s 0.1 -c +1 --pid="$qemu" "$job/output" &
ended=0
wait "$qemu" || ended=$?
wait $! || :
qemu=

log=$job/log
tr -d '\r' < "$job/console" > "$log" || :
cp "$log" "$cache/console"    # of the last run to end, for reading
grep -E 'BUG|WARN|Oops|Call Trace|Kernel panic|blocked for more than' "$log" >&2 || :
status=$(sed -n 's/^RXE-STATUS //p' "$log" | tail -n 1)
if [ "$ended" = 124 ] || [ "$ended" = 137 ]; then
	echo "vm.sh: out of time; kernel log in $cache/console" >&2
	exit 124
fi
if [ -z "$status" ] || [ "$status" = setup-failed ]; then
	tail -n 20 "$log" >&2
	die "the VM ended without running the command to its end; kernel log in $cache/console"
fi
exit "$status"
