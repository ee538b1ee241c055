// Package guest holds what runs inside a guest besides Debian's own files: the init script, the definitions of the
// services, and the empty data disk. internal/image puts them into images; nothing here is compiled.
package guest

import (
	_ "embed"
)

//go:generate sh disk/make.sh

// Init is process 1 of every image, a busybox shell script. Its head lists the parameters it takes from the kernel's
// command line.
//
//go:embed init
var Init []byte

// Udhcpc is what the DHCP client calls with the server's answer.
//
//go:embed udhcpc
var Udhcpc []byte

// RedisService defines the redis image's service for Init.
//
//go:embed redis.service
var RedisService []byte

// RedisConfig is the redis image's /etc/redis.conf.
//
//go:embed redis.conf
var RedisConfig []byte

// ShellService defines the shell image's service for Init.
//
//go:embed shell.service
var ShellService []byte

// DataDisk is an empty 64 MiB ext4 file system, compressed with zstd: 2.5 kB.
//
//go:embed disk/data-64M.ext4.zst
var DataDisk []byte
