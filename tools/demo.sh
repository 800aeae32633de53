#!/usr/bin/env bash
# The main job, from nothing: boot a cluster, load two images, deploy the guestbook, use it.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
# As it would be typed: a word with a space in quotes.
quoted() { for word in "$@"; do [[ $word == *\ * ]] && word="'$word'"; printf ' %s' "$word"; done; }
run() { printf '$%s\n' "$(quoted "$@")"; "$@"; }

say "1. A cluster"
run sampan up
KUBECONFIG=$(sampan kubeconfig --path)
export KUBECONFIG
run kubectl get nodes

say "2. Two images, built here from busybox, loaded without a registry"
run python -m examples.guestbook.build examples/guestbook
run sampan image load examples/guestbook/guestbook-frontend.tar examples/guestbook/guestbook-backend.tar

say "3. The guestbook"
run kubectl apply -f examples/guestbook/guestbook.yaml
run kubectl rollout status deployment/redis --timeout=60s
run kubectl rollout status deployment/frontend --timeout=60s
run kubectl get pods,services -o wide

say "4. Sign it, and read it back through the service (three front ends, one back end found by DNS)"
run curl -sS --retry 5 --retry-connrefused --retry-delay 1 -d 'Hello from a cluster installed with pip' http://127.0.0.1:30080/cgi-bin/entries
run curl -sS http://127.0.0.1:30080/cgi-bin/entries

say "Try next"
cat <<TEXT
  export PATH=$PWD/.venv/bin:\$PATH KUBECONFIG=$KUBECONFIG
  open http://127.0.0.1:30080/                        the guestbook
  kubectl logs -f deployment/frontend                 its log
  kubectl exec -it deployment/redis -- sh             a shell in the back end
  kubectl scale deployment/frontend --replicas=10     more of them
  sampan status ; sampan logs                         what runs, and what it says
  sampan down [--purge]                               stop it [and remove its data]
TEXT
