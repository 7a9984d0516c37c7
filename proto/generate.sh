#!/bin/sh
# Write ya_salt/proto/*_pb2.py(i) from proto/*.proto, and dev-portod's copy: `make proto`.
# Needs setup.cfg's extra `proto`.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
PATH="$(dirname "$(command -v "$python")"):$PATH" "$python" -m grpc_tools.protoc -I proto \
    --python_out=ya_salt/proto --mypy_out=quiet:ya_salt/proto proto/ya_salt.proto proto/porto.proto
cp ya_salt/proto/porto_pb2.py ya_salt/proto/porto_pb2.pyi devporto/src/devporto/
