package image

import (
	"fmt"
	"strings"

	"understudy/guest"
)

// Recipe says what an image is made of. Recipes are data; Build does the work.
type Recipe struct {
	Name        string
	Description string
	// Packages are the Debian packages whose files, and whose dependencies' files, may be used.
	Packages []string
	// Exclude names dependencies that serve maintainer scripts only, which are never run.
	Exclude []string
	// Programs are the paths taken out of the packages, with every library they are linked with.
	Programs []string
	// Modules are the kernel modules by group; the init script loads groups. A "?" at the end: may be missing.
	Modules []ModuleGroup
	// Service is the shell fragment that defines the image's service (see guest.Init).
	Service []byte
	// Files are further files, by path without a leading slash.
	Files map[string][]byte
	// Users are further lines of /etc/passwd; each gets a group of the same name and number.
	Users []User
	// DataDisk adds the empty ext4 disk that is mounted at /data.
	DataDisk bool
	// Cmdline is the kernel's command line.
	Cmdline string
	// MemBytes is the memory that the image runs well with.
	MemBytes uint64
}

// ModuleGroup is a list of kernel modules that are loaded together.
type ModuleGroup struct {
	Name    string
	Modules []string
}

// User is an account within the guest.
type User struct {
	Name string
	ID   int
	Home string
}

// baseCmdline is what every image's kernel is started with.
//
// panic=-1: a kernel that panics restarts at once, which calls SBI system reset with type "cold reboot"; an orderly end is
// type "shutdown". Linux gives the reason "none" in both cases, so the type is what tells a monitor whether the
// guest ended or failed.
//
// The rest saves instructions, of which a boot to a mounted disk takes 0.36 G instead of 1.18 G: the crypto
// self-tests (0.65 G in all), the collection of jitter entropy (0.18 G; the machine's entropy device serves the same
// end), and the preparation of kernel probes (0.07 G). Counted under QEMU with one instruction per nanosecond.
const baseCmdline = "console=ttyS0 quiet panic=-1 cryptomgr.notests initcall_blacklist=jent_mod_init,init_kprobe_trace"

const defaultMemBytes = 256 << 20

// baseModules is what any machine of ours can have.
var baseModules = []ModuleGroup{
	{"mmio", []string{"virtio_mmio"}},
	{"net", []string{"virtio_net"}},
	{"blk", []string{"virtio_blk"}},
	{"rng", []string{"virtio_rng"}},
	// crc32c_generic: ext4 and jbd2 name it as a soft dependency by an alias, and will not mount without it.
	{"ext4", []string{"crc32c_generic?", "ext4"}},
}

// recipes in the order in which they are shown.
var recipes = []Recipe{
	{
		Name:        "redis",
		Description: "redis-server on port 6379, its data on the disk when there is one",
		Packages:    []string{"redis-server"},
		Exclude:     []string{"adduser", "init-system-helpers", "debconf", "openssl-provider-legacy", "libcap2-bin"},
		Programs:    []string{"usr/bin/redis-server"},
		Modules:     baseModules,
		Service:     guest.RedisService,
		Files:       map[string][]byte{"etc/redis.conf": guest.RedisConfig},
		Users:       []User{{"redis", 100, "/var/lib/redis"}},
		DataDisk:    true,
		Cmdline:     baseCmdline,
		MemBytes:    defaultMemBytes,
	},
	{
		Name:        "shell",
		Description: "a busybox shell on the console",
		Modules:     append(baseModules[:len(baseModules):len(baseModules)], ModuleGroup{"overlay", []string{"overlay?"}}),
		Service:     guest.ShellService,
		DataDisk:    true,
		Cmdline:     baseCmdline,
		MemBytes:    defaultMemBytes,
	},
}

// Recipes lists the recipes that Build knows.
func Recipes() []Recipe { return recipes }

// FindRecipe gives the recipe of that name; "minimal" is another name of "shell".
func FindRecipe(name string) (Recipe, error) {
	if name == "minimal" {
		name = "shell"
	}
	var names []string
	for _, r := range recipes {
		if r.Name == name {
			return r, nil
		}
		names = append(names, r.Name)
	}
	return Recipe{}, fmt.Errorf("no recipe %q: there are %s", name, strings.Join(names, ", "))
}
