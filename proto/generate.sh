#!/bin/sh
# Write ya_salt/proto/*_pb2.py(i) from proto/*.proto, and dev-portod's copy: `make proto`.
# Needs setup.cfg's extra `proto`.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
PATH="$(dirname "$(command -v "$python")"):$PATH"
# A newer one's code does not load on Ubuntu 22.04's protobuf, an older one's on any from 4 on.
case $(protoc --version) in
"libprotoc 3.19."*) ;;
*) echo "protoc 3.19 is needed, $(command -v protoc) is $(protoc --version)" >&2 && exit 1 ;;
esac
protoc -I proto --python_out=ya_salt/proto --mypy_out=quiet:ya_salt/proto \
    proto/ya_salt.proto proto/porto.proto
# What quick_porto.py makes its messages of.
(
    echo '"""porto.proto as protobuf reads it. Written by proto/generate.sh."""'
    echo
    PYTHONPATH=ya_salt/proto "$python" -c 'from porto_pb2 import DESCRIPTOR as d; print("FILE =", ascii(d.serialized_pb))'
) >ya_salt/proto/porto_file.py
cp ya_salt/proto/porto_pb2.py ya_salt/proto/porto_pb2.pyi devporto/src/devporto/
