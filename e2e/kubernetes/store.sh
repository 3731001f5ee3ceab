#!/usr/bin/env bash
# store.sh STATE: MinIO, an S3 server, beside the nodes of the Kubernetes in STATE, as the samples of backups expect it: the Service
# minio.minio.svc, the bucket etcd-backups, the Secrets backup-credentials and backup-ca. It ends with the Kubernetes; what it stores stays
# in STATE/minio. Running already is fine too.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
STATE=$(realpath "$1")
: "${MINIO:?is set by make}"
[ -x "$MINIO/minio" ] || { echo "$MINIO/minio is missing: make minio" >&2; exit 1; }
IP=172.31.0.1 PORT=9000 HOST=minio.minio.svc DIR=$STATE/minio
in_cluster() { "$HERE/in.sh" "$STATE" "$@"; }
serves() { in_cluster curl --silent --fail --max-time 2 --cacert "$DIR/ca.crt" --output /dev/null "https://$IP:$PORT/minio/health/live"; }

mkdir -p "$DIR/certs" "$DIR/disk/etcd-backups"
if [ ! -e "$DIR/secret" ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=demo store" \
    -keyout "$DIR/ca.key" -out "$DIR/ca.crt" 2> /dev/null
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=$HOST" -CA "$DIR/ca.crt" -CAkey "$DIR/ca.key" \
    -addext "subjectAltName=DNS:$HOST,IP:$IP" -addext "basicConstraints=critical,CA:FALSE" \
    -keyout "$DIR/certs/private.key" -out "$DIR/certs/public.crt" 2> /dev/null
  (umask 077 && openssl rand -hex 20 > "$DIR/secret")
fi
if ! serves; then
  MINIO_ROOT_USER=demo MINIO_ROOT_PASSWORD=$(cat "$DIR/secret") MINIO_BROWSER=off MINIO_UPDATE=off HOME=$DIR \
    setsid "$HERE/in.sh" "$STATE" "$MINIO/minio" server "--address=$IP:$PORT" "--certs-dir=$DIR/certs" --quiet "$DIR/disk" \
    > "$STATE/log/minio.log" 2>&1 < /dev/null &
  server=$!
  until serves; do
    kill -0 $server 2> /dev/null || { tail -20 "$STATE/log/minio.log" >&2; exit 1; }
    sleep 0.2
  done
fi
in_cluster kubectl apply -f - << END
apiVersion: v1
kind: Namespace
metadata: {name: minio}
---
apiVersion: v1
kind: Service
metadata: {name: minio, namespace: minio}
spec:
  ports: [{name: s3, port: 9000}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: minio-demo
  namespace: minio
  labels: {kubernetes.io/service-name: minio}
addressType: IPv4
endpoints: [{addresses: ["$IP"]}]
ports: [{name: s3, port: $PORT}]
---
apiVersion: v1
kind: Secret
metadata: {name: backup-credentials}
stringData: {AWS_ACCESS_KEY_ID: demo, AWS_SECRET_ACCESS_KEY: "$(cat "$DIR/secret")"}
---
apiVersion: v1
kind: Secret
metadata: {name: backup-ca}
data: {ca.crt: "$(base64 --wrap=0 "$DIR/ca.crt")"}
END
