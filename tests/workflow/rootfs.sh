#!/usr/bin/env bash
# A thin Debian root file system: no Python and no packages, but the libraries that the host's Python is linked to.
# usage: rootfs.sh FOLDER
set -euo pipefail
folder=$1
. /etc/os-release # the suite of the host, so that the host's Python runs on this C library
sources=/etc/apt/sources.list.d/debian.sources
[ -f "$sources" ] || sources=/etc/apt/sources.list
libraries=libstdc++6,libgcc-s1,zlib1g,libssl3,libsqlite3-0,libbz2-1.0,liblzma5,libffi8,libreadline8,libncursesw6,libuuid1
mmdebstrap --quiet --variant=extract --include="base-files,bash,coreutils,findutils,grep,sed,ca-certificates,$libraries" \
    "$VERSION_CODENAME" "$folder" "$sources"
# nothing has been configured: what the packages' scripts would have made
ln -sf bash "$folder/bin/sh"
echo 'root:x:0:0:root:/root:/bin/bash' > "$folder/etc/passwd"
echo 'root:x:0:' > "$folder/etc/group"
touch "$folder/etc/hosts"
rm -rf "${folder:?}"/dev/* # device nodes cannot be copied in a user namespace
