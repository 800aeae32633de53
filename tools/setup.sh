#!/usr/bin/env bash
# Install what Sampan needs: a virtual environment in .venv, and (as root, with apt) the Debian
# packages that run containers. Safe to run again; does only what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
for pair in crun:crun conmon:conmon nft:nftables ip:iproute2 busybox:busybox-static \
            docker-registry:docker-registry skopeo:skopeo buildah:buildah containerd:containerd \
            curl:curl ganesha.nfsd:nfs-ganesha rpcbind:rpcbind gcc:gcc musl-gcc:musl-tools; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair##*:}")
done
# Libraries: of the tests' file server, of the client of NFS volumes where the kernel has none, and
# of the tests' programs in C.
for pair in libc.a:libc6-dev ganesha/libfsalvfs.so:nfs-ganesha-vfs libnfs.so:libnfs13 libfuse3.so:libfuse3-3; do
    compgen -G "/usr/lib/*/${pair%%:*}*" >/dev/null || compgen -G "/lib/*/${pair%%:*}*" >/dev/null ||
        missing+=("${pair##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing Debian packages: ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    else
        echo "missing: ${missing[*]}; install them as root (apt-get install ${missing[*]})" >&2
    fi
fi

[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
.venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python -e '.[dev]'
# The first boot should not have to compile: this takes two seconds once.
.venv/bin/python -m compileall -q sampan
