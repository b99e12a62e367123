#!/bin/bash
# Makes the allocators that come with Debian 12's packages.
set -euo pipefail

if [[ ${1-} ]]; then
  cat <<'HELP'
bench/rivals/debian.sh

Makes the rival allocators that come with Debian 12's packages, into build/rivals/, and installs the native ones (jemalloc, tcmalloc, mimalloc).
Packages that are missing are installed by apt-get, which takes root, about 900 MB on the disk and some minutes. mimalloc's source is fetched into
build/rivals/src/. Nothing is removed, and what is there is not made again: delete a build/rivals/*.wasm to have it made anew.
HELP
  [[ $1 == --help ]] && exit 0 || exit 2
fi

here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/../.." && pwd)/build/rivals
objects=$out/objects
mkdir -p "$objects"

say() { echo "rivals: $*"; }

# ---- packages

packages=(emscripten clang-14 lld-14 binaryen wasi-libc rustc libstd-rust-dev-wasm32 xz-utils
  libjemalloc2 libtcmalloc-minimal4 libmimalloc2.0)
missing=()
for package in "${packages[@]}"; do
  [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done
if ((${#missing[@]})); then
  say "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi

# ---- tools

# Debian's node modules, of which emcc needs one, are not where another Node looks.
compile() { NODE_PATH=/usr/share/nodejs emcc -O3 -w -c "$@"; }

# The allocator's memory begins at 64 MiB, below is the driver's; it can grow to 4 GiB less a page.
link() {
  local id=$1
  shift
  wasm-ld-14 --no-entry --import-memory --max-memory=$(((1 << 32) - 65536)) --global-base=$((64 << 20)) -z stack-size=65536 --strip-debug \
    --allow-undefined --export={malloc,free,calloc,realloc,aligned_alloc,__wasm_call_ctors} --export-if-defined=malloc_usable_size \
    "$@" -o "$objects/$id.wasm"
  # As emcc does it.
  wasm-opt -O3 "$objects/$id.wasm" -o "$out/$id.wasm"
  say "$id.wasm $(stat -c %s "$out/$id.wasm") bytes"
}

absent() { [[ ! -e $out/$1.wasm ]]; }

# ---- Emscripten

archives=/usr/share/emscripten/cache/sysroot/lib/wasm32-emscripten
glue() {
  [[ $objects/thread.o -nt $here/thread.c && $objects/thread.o -nt $here/emscripten.c ]] && return
  compile -mbulk-memory "$here/emscripten.c" -o "$objects/glue.o"
  compile -pthread "$here/emscripten.c" -o "$objects/glue-mt.o"
  compile -pthread "$here/thread.c" -o "$objects/thread.o"
}

for allocator in dlmalloc emmalloc; do
  if absent "emscripten-$allocator"; then
    glue
    link "emscripten-$allocator" "$objects/glue.o" "$archives"/lib{$allocator,c,compiler_rt}.a
  fi
  if absent "emscripten-$allocator-mt"; then
    glue
    link "emscripten-$allocator-mt" --shared-memory "$objects"/{glue-mt,thread}.o "$archives"/lib{$allocator,c,compiler_rt}-mt.a
  fi
done

# ---- mimalloc, from Debian's source package

source=$out/src

# With a list of sources of its own, so that the machine's stays as it is.
fetch_mimalloc() {
  local lists=$source/lists
  mkdir -p "$lists/partial"
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main" >"$source/sources.list"
  local options=(-qq -o "Dir::Etc::SourceList=$source/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$lists" -o APT::Sandbox::User=root)
  say "fetching mimalloc's source"
  apt-get "${options[@]}" update
  (cd "$source" && apt-get "${options[@]}" source --download-only mimalloc)
  tar -C "$source" -xf "$source"/mimalloc_*.orig.tar.xz
  local description
  description=$(echo "$source"/mimalloc_*.dsc)
  description=${description##*mimalloc_}
  echo "${description%.dsc}" >"$out/mimalloc.version"
}

make_mimalloc() {
  local id=$1 tree
  shift
  glue
  [[ -e $out/mimalloc.version ]] || fetch_mimalloc
  tree=$(echo "$source"/mimalloc-*/)
  # Told that it is for WASI, it takes its memory by sbrk and has no need of pthreads; told of C11 in glibc's way, it has aligned_alloc.
  compile "$@" -fno-builtin -D__wasi__ -D__USE_ISOC11 -DMI_MALLOC_OVERRIDE -DNDEBUG -I"$tree/include" "$tree/src/static.c" -o "$objects/$id.o"
  compile "$@" /usr/share/emscripten/system/lib/sbrk.c -o "$objects/$id-sbrk.o"
}

if absent mimalloc; then
  make_mimalloc mimalloc -mbulk-memory
  link mimalloc "$objects"/{mimalloc,mimalloc-sbrk,glue}.o "$archives"/lib{c,compiler_rt}.a
fi
if absent mimalloc-mt; then
  make_mimalloc mimalloc-mt -pthread
  compile -pthread "$here/mimalloc.c" -o "$objects/mimalloc-thread.o"
  link mimalloc-mt --shared-memory "$objects"/{mimalloc-mt,mimalloc-mt-sbrk,mimalloc-thread,thread,glue-mt}.o "$archives"/lib{c,compiler_rt}-mt.a
fi

# ---- wasi-libc

if absent wasi-dlmalloc; then
  link wasi-dlmalloc /usr/lib/wasm32-wasi/libc.a
fi

# ---- Rust

if absent rust-dlmalloc; then
  # Debian's, even if there is another one that lacks the target; and not linked by it, which would put the stack where the driver's memory is.
  /usr/bin/rustc --target wasm32-unknown-unknown --crate-type staticlib -C opt-level=3 -C lto -C panic=abort \
    "$here/dlmalloc.rs" -o "$objects/rust-dlmalloc.a"
  link rust-dlmalloc "$objects/rust-dlmalloc.a"
fi

say "all there"
