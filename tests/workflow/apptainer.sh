#!/usr/bin/env bash
# Unpack Apptainer from Debian's unstable suite, the only one that has it, into a folder of its own, beside the C
# library that it was built for. Nothing on the host is replaced. Needs a Debian, and patchelf on PATH.
# usage: apptainer.sh FOLDER      (then: FOLDER/path on PATH)
set -euo pipefail
folder=$(realpath -m "$1")
here=$(realpath "$(dirname "$0")")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# apt with lists of its own, from the mirror that this machine uses
mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1
}
[ -n "$(mirror)" ] || apt-get -qq update
mkdir -p "$scratch"/lists/partial "$scratch"/cache/archives/partial "$scratch"/packages "$scratch"/root
chmod -R a+rwX "$scratch" # apt downloads as a user of its own
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) unstable main" > "$scratch/sources.list"
cat > "$scratch/apt.conf" <<END
Dir::Etc::SourceList "$scratch/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "$scratch/lists";
Dir::Cache "$scratch/cache";
Acquire::Languages "none";
END
(
    cd "$scratch/packages"
    export APT_CONFIG="$scratch/apt.conf"
    apt-get -qq update
    apt-get -qq download {apptainer,libc6,libseccomp2,libsqlite3-0}/unstable
)
for package in "$scratch"/packages/*.deb; do dpkg-deb -x "$package" "$scratch/root"; done

library=$(basename "$(dirname "$(ls -d "$scratch"/root/usr/lib/*/apptainer)")") # x86_64-linux-gnu, aarch64-linux-gnu
rm -rf "$folder"
mkdir -p "$folder"/{bin,path,etc,lib/"$library",libc,var/lib/apptainer/mnt/session}
cp -a "$scratch/root/etc/apptainer" "$folder/etc/"
cp -a "$scratch/root/usr/lib/$library/apptainer" "$folder/lib/$library/"
cp -a "$scratch/root/usr/bin/apptainer" "$folder/bin/"
cp -a "$scratch"/root/usr/lib/"$library"/*.so* "$folder/libc/"
loader=$(ls "$folder"/libc/ld-linux-*.so.*)
for program in "$folder/bin/apptainer" "$folder/lib/$library/apptainer/bin/starter"; do
    # an rpath, which libraries inherit: a runpath would let libsqlite3 load the host's libm
    patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$folder/libc" "$program"
done
ln -s ../etc "$folder/lib/etc" # the starter looks for both below lib
ln -s ../var "$folder/lib/var"

# root of a virtual machine may lack capabilities that "full" asks for; jobs need none
sed -i 's/^root default capabilities = .*/root default capabilities = no/' "$folder/etc/apptainer/apptainer.conf"
# ... and %post of a build insists on all of them: a user namespace has them
cat > "$folder/path/apptainer" <<END
#!/bin/sh
[ "\$1" != build ] || exec "$(command -v python3)" "$here/namespace.py" "$folder/bin/apptainer" "\$@"
exec "$folder/bin/apptainer" "\$@"
END
chmod +x "$folder/path/apptainer"
"$folder/path/apptainer" --version
