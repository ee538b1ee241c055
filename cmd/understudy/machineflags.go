package main

import (
	"crypto/rand"
	"debug/elf"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"understudy/internal/host"
	"understudy/internal/image"
	"understudy/machine"
)

// logger narrates on stderr.
func logger(c *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
}

// guestMAC is the address of a guest's network device: locally administered, the same on both replicas.
var guestMAC = [6]byte{0x52, 0x55, 0x4e, 0x44, 0x00, 0x02}

// Addresses on the virtual LAN.
var (
	guestIP   = netip.MustParsePrefix("192.168.127.2/24")
	gatewayIP = netip.MustParseAddr("192.168.127.1")
)

// machineFlags say what a machine is made of.
type machineFlags struct {
	image, kernel, initrd, append string
	memory                        string
	disks                         []string
}

func (m *machineFlags) add(f *pflag.FlagSet) {
	f.StringVar(&m.kernel, "kernel", "", "a RISC-V Linux Image as Debian ships it, or an ELF that starts in S mode")
	f.StringVar(&m.initrd, "initrd", "", "initial RAM disk")
	f.StringVar(&m.append, "append", "", "kernel command line, or words to add to the image's")
	f.StringVar(&m.memory, "memory", "", "guest memory, as 256M (default: the image's, or 256M)")
	f.StringVar(&m.memory, "mem", "", "the same as --memory")
	f.StringVar(&m.append, "cmdline", "", "the same as --append")
	_ = f.MarkHidden("mem")
	_ = f.MarkHidden("cmdline")
	f.StringArrayVar(&m.disks, "disk", nil, "raw disk file, FILE or FILE:ro (repeatable)")
}

// parseBytes reads a size such as 512M.
func parseBytes(s string) (uint64, error) {
	shift := 0
	digits := strings.TrimSuffix(strings.ToUpper(s), "B")
	switch {
	case strings.HasSuffix(digits, "K"):
		shift = 10
	case strings.HasSuffix(digits, "M"):
		shift = 20
	case strings.HasSuffix(digits, "G"):
		shift = 30
	}
	if shift != 0 {
		digits = digits[:len(digits)-1]
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n == 0 || n > 1<<50>>shift {
		return 0, fmt.Errorf("size %q: want a number with K, M or G, as 256M", s)
	}
	return n << shift, nil
}

// config makes the machine's description. lan says whether it has a network device; the image's disks, if
// it has any and none is given, are copied to scratch.
func (m *machineFlags) config(lan bool, scratch string) (machine.Config, []host.DiskSpec, error) {
	cfg := machine.Config{MemBytes: 256 << 20, Cmdline: m.append, WallClockNs: uint64(time.Now().UnixNano())}
	rand.Read(cfg.Seed[:])
	var disks []host.DiskSpec
	for _, d := range m.disks {
		path, ro := strings.CutSuffix(d, ":ro")
		disks = append(disks, host.DiskSpec{Path: path, ReadOnly: ro})
	}
	switch {
	case m.image != "" && m.kernel != "":
		return cfg, nil, fmt.Errorf("either an image or --kernel, not both")
	case m.image != "":
		dir, err := image.Find(m.image)
		if err != nil {
			return cfg, nil, withHint(err, "understudy image build --recipe redis")
		}
		im, err := image.Load(dir)
		if err != nil {
			return cfg, nil, err
		}
		cfg.Kernel, cfg.Initrd = im.Kernel(), im.Initrd()
		if im.MemBytes != 0 {
			cfg.MemBytes = im.MemBytes
		}
		p := image.Params{}
		if lan {
			p.IP, p.Gateway, p.DNS = guestIP, gatewayIP, gatewayIP
		}
		words, err := p.Words()
		if err != nil {
			return cfg, nil, err
		}
		cfg.Cmdline = strings.TrimSpace(im.CommandLine(words, m.append))
		if len(disks) == 0 && scratch != "" {
			for i := range im.Disks {
				path := filepath.Join(scratch, fmt.Sprintf("disk%d.raw", i))
				if err := im.CreateDisk(i, path); err != nil {
					return cfg, nil, err
				}
				disks = append(disks, host.DiskSpec{Path: path})
			}
		}
	case m.kernel != "":
		var err error
		if cfg.Kernel, err = os.ReadFile(m.kernel); err != nil {
			return cfg, nil, fmt.Errorf("read kernel: %w", err)
		}
		if !strings.HasPrefix(string(cfg.Kernel[:min(4, len(cfg.Kernel))]), elf.ELFMAG) {
			// The machine would refuse it as well, but cannot say what it is instead.
			if err := image.CheckKernel(cfg.Kernel, int64(len(cfg.Kernel))); err != nil {
				return cfg, nil, fmt.Errorf("%s: %w", m.kernel, err)
			}
		}
		if m.initrd != "" {
			if cfg.Initrd, err = os.ReadFile(m.initrd); err != nil {
				return cfg, nil, fmt.Errorf("read initrd: %w", err)
			}
		}
	default:
		return cfg, nil, withHint(fmt.Errorf("nothing to run: no image and no --kernel"), "understudy image build --recipe redis")
	}
	if m.memory != "" {
		var err error
		if cfg.MemBytes, err = parseBytes(m.memory); err != nil {
			return cfg, nil, err
		}
	}
	if lan {
		cfg.NICs = []machine.NIC{{MAC: guestMAC}}
	}
	return cfg, disks, nil
}

// ended gives the exit code for a guest's end.
func ended(down machine.Down) error {
	switch down {
	case machine.Failure:
		return &exitError{code: exitFailure, err: fmt.Errorf("the guest reported a system failure")}
	case machine.Reboot:
		return &exitError{code: exitReboot, err: fmt.Errorf("the guest asked for a reboot (a kernel panic does, with panic=-1)")}
	}
	return nil
}
