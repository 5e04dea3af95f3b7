#!/bin/bash
#
# Builds the Debian package in $BUILD/deb from a copy of the source tree: the
# files that git tracks or does not ignore, or all files without git.

set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath -m "${BUILD:-$top/build}")
name=libnginx-mod-http-lunary
source=$build/deb/$name

for tool in dpkg-buildpackage dh dh_nginx; do
    command -v "$tool" > /dev/null \
        || { echo "$tool is missing: make deps" >&2; exit 1; }
done

rm -rf "$build/deb"
mkdir -p "$source"
cd "$top"

if git rev-parse --show-toplevel 2> /dev/null | grep -qxF "$top"; then
    git ls-files -z --cached --others --exclude-standard
else
    find . -path ./build -prune -o -name .git -prune -o -type f -print0
fi | while IFS= read -r -d '' file; do
         if [ -e "$file" ]; then printf '%s\0' "$file"; fi
     done | tar --null --files-from=- -cf - | tar -xf - -C "$source"

cd "$source"

if ! LC_ALL=C dpkg-buildpackage -b -us -uc -rfakeroot \
         > "$build/deb/build.log" 2>&1
then
    tail -n 40 "$build/deb/build.log" >&2
    exit 1
fi

cd "$build/deb"
rm -rf "$source"

printf '%s\n' "$build/deb/$name"_*.deb
