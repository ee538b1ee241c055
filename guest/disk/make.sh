#!/bin/sh
# Makes data-64M.ext4.zst, the empty data disk that builders copy: an ext4 file system whose bytes are the same each time
# (fixed UUID, hash seed and times) with a small journal and nothing left to initialise later. Needs mke2fs and zstd;
# run by "go generate ./guest".
set -eu
cd "$(dirname "$0")"
image=$(mktemp)
config=$(mktemp)
trap 'rm -f "$image" "$config"' EXIT
# Nothing of the host's mke2fs.conf.
printf '[defaults]\n[fs_types]\next4 = {\nblocksize = 4096\n}\nsmall = {\nblocksize = 4096\n}\n' >"$config"
truncate -s 64M "$image"
export E2FSPROGS_FAKE_TIME=1577836800 # 2020-01-01
export MKE2FS_CONFIG=$config TZ=UTC
mke2fs -q -F -t ext4 -b 4096 -I 256 -N 4096 -m 0 -L data -J size=4 \
	-U 756e6465-7273-7475-6479-000000000001 \
	-E hash_seed=756e6465-7273-7475-6479-000000000002,lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0 \
	-O none,has_journal,ext_attr,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,dir_index,metadata_csum \
	"$image"
zstd -q -19 -f -o data-64M.ext4.zst "$image"
chmod 644 data-64M.ext4.zst
sha256sum <"$image"
