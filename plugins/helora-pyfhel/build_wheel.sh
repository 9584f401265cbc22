#!/usr/bin/env bash
# Builds a wheel of Pyfhel where the three repositories that its build clones (GSL, zlib, zstd) cannot be reached: SEAL
# is built without them. Nothing is lost but compression of what is serialised, which helora-pyfhel does not use.
#
#     PYTHON=python3.12 ./build_wheel.sh [FOLDER]      # the folder for the wheel, by default dist/; about five minutes
#     pip install --find-links FOLDER 'Pyfhel>=3.5,<4'
#
# It needs pip, a C++17 compiler and make; CMake and Cython come as build dependencies.
set -euo pipefail

version=3.5.0
python=${PYTHON:-python3}
mkdir -p "${1:-dist}"
folder=$(cd "${1:-dist}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

"$python" -m pip download --no-deps --no-binary Pyfhel "Pyfhel==$version"
"$python" -m tarfile -e "pyfhel-$version.tar.gz" .
cd "pyfhel-$version"
sed -i.original -E "s/^([[:space:]]*SEAL_USE_(MSGSL|ZLIB|ZSTD)[[:space:]]*=[[:space:]]*)'ON'/\1'OFF'/" pyproject.toml
if [ "$(grep -cE "^[[:space:]]*SEAL_USE_(MSGSL|ZLIB|ZSTD)[[:space:]]*=[[:space:]]*'OFF'" pyproject.toml)" != 3 ]; then
    echo "pyproject.toml of Pyfhel $version is not as expected: SEAL_USE_MSGSL, _ZLIB and _ZSTD could not be turned off" >&2
    exit 1
fi
"$python" -m pip wheel --no-deps --wheel-dir "$folder" .
