#!/usr/bin/env bash
# Download the packages that a machine with PyTorch and Transformers, but without a network, may lack for gpu.sh.
#
# Run: bash benchmarks/wheels.sh [FOLDER]; then carry the folder, .wheels by default, which git ignores.
# PYTHON_VERSION (3.12) is that of the other machine, which runs Linux on x86-64. Versions are those of constraints.txt.
set -eu
cd "$(dirname "$0")/.."
folder="${1:-.wheels}"
platforms=()
for glibc in 2_28 2_27 2_24 2_17; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
packages=()
for name in av pycocotools typer; do packages+=("$(grep -i "^$name==" constraints.txt)"); done
"${PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary=:all: --dest "$folder" \
    --python-version "${PYTHON_VERSION:-3.12}" --implementation cp "${platforms[@]}" --platform manylinux2014_x86_64 \
    "${packages[@]}"
ls -l "$folder"
