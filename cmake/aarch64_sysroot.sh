#!/bin/sh
# aarch64_sysroot.sh DIR: fills DIR with Debian's arm64 C library and the libraries stoker links,
# for cmake/aarch64.cmake. Needs apt and no rights: packages are unpacked, never installed, and
# apt's lists and cache live in DIR/apt, so the machine's own package state is left alone.
# DIR/packages, written last, says what is there; if that is all that is wanted, nothing is done.
set -eu
sysroot=${1:?usage: aarch64_sysroot.sh DIR}
packages="libc6-dev libhwloc-dev libpcre2-dev libedit-dev libjansson-dev libcmocka-dev liburing-dev
libxxhash-dev libyaml-dev"
[ "$(cat "$sysroot/packages" 2>/dev/null)" != "$packages" ] || exit 0
rm -rf "$sysroot/packages" "$sysroot/apt"
mkdir -p "$sysroot/apt/lists/partial" "$sysroot/apt/archives/partial"
sysroot=$(cd "$sysroot" && pwd)
. /etc/os-release
case ${ID} in
ubuntu) mirror=http://ports.ubuntu.com/ubuntu-ports components="main universe"
        keys=/usr/share/keyrings/ubuntu-archive-keyring.gpg ;;
*) mirror=http://deb.debian.org/debian components=main
   keys=/usr/share/keyrings/debian-archive-keyring.gpg ;;
esac
echo "deb [signed-by=$keys] $mirror $VERSION_CODENAME $components" > "$sysroot/apt/sources.list"
: > "$sysroot/apt/status" # nothing counts as installed, so that apt fetches all they need

# An apt that believes it runs on arm64 and knows only this folder.
arm64_apt()
{
    apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
        -o Dir::Etc::SourceList="$sysroot/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State="$sysroot/apt" -o Dir::State::Lists="$sysroot/apt/lists" \
        -o Dir::State::status="$sysroot/apt/status" -o Dir::Cache="$sysroot/apt" \
        -o Dir::Cache::archives="$sysroot/apt/archives" -o APT::Sandbox::User="$(id -un)" \
        -o Debug::NoLocking=1 --no-install-recommends --download-only "$@"
}
arm64_apt update
# shellcheck disable=SC2086 # words
arm64_apt -y install $packages
for archive in "$sysroot"/apt/archives/*.deb; do
    dpkg-deb -x "$archive" "$sysroot"
done
rm -r "$sysroot/apt"
echo "$packages" > "$sysroot/packages"
