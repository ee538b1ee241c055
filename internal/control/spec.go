package control

import (
	"net"
	"regexp"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	api "understudy/api/understudy/v1"
)

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

func validName(name string) bool { return nameForm.MatchString(name) }

// Bounds of a spec.
const (
	minMemBytes, maxMemBytes = 32 << 20, 64 << 30
	maxForwards, maxVolumes  = 64, 8
	maxVolumeBytes           = 1 << 44
	maxSpares                = 62 // with primary and backup as many as the view service takes
	maxCmdlineBytes          = 1024
)

// checkSpec refuses what no host could carry out, and returns a copy.
func checkSpec(spec *api.MachineSpec) (*api.MachineSpec, error) {
	bad := func(format string, args ...any) error {
		return refuse(connect.CodeInvalidArgument, "understudy run --help", format, args...)
	}
	if spec == nil {
		return nil, bad("no machine is described")
	}
	switch {
	case !validName(spec.Name):
		return nil, bad("machine name %q: want [a-z0-9][a-z0-9._-]{0,62}", spec.Name)
	case spec.Image == "" || len(spec.Image) > 255:
		return nil, bad("image name of %d bytes, want 1 to 255", len(spec.Image))
	case spec.MemBytes != 0 && (spec.MemBytes < minMemBytes || spec.MemBytes > maxMemBytes || spec.MemBytes%4096 != 0):
		return nil, bad("memory of %d bytes: want 32M to 64G in whole pages of 4K", spec.MemBytes)
	case len(spec.Forwards) > maxForwards:
		return nil, bad("%d forwarded ports, at most %d", len(spec.Forwards), maxForwards)
	case len(spec.SharedDisks) > maxVolumes:
		return nil, bad("%d shared disks, at most %d", len(spec.SharedDisks), maxVolumes)
	case api.SharedDiskReads_name[int32(spec.SharedDiskReads)] == "":
		return nil, bad("way %d of reading shared disks is unknown", spec.SharedDiskReads)
	case spec.SharedDiskReads == api.SharedDiskReads_SHARED_DISK_READS_DISK && len(spec.SharedDisks) == 0:
		return nil, bad("there is no shared disk for a backup to read")
	case spec.SharedDiskReads == api.SharedDiskReads_SHARED_DISK_READS_DISK && spec.Mode == api.Mode_MODE_CHECKPOINT:
		return nil, bad("in checkpoint mode a backup reads no shared disk: what the guest read comes to it with the pages that it changed")
	case len(spec.Volumes) > maxVolumes:
		return nil, bad("%d volumes, at most %d", len(spec.Volumes), maxVolumes)
	case spec.Spares < -1 || spec.Spares > maxSpares:
		return nil, bad("%d spares: want -1 (all hosts) to %d", spec.Spares, maxSpares)
	case len(spec.Cmdline) > maxCmdlineBytes:
		return nil, bad("command line of %d bytes, at most %d", len(spec.Cmdline), maxCmdlineBytes)
	case api.Mode_name[int32(spec.Mode)] == "":
		return nil, bad("mode %d is unknown", spec.Mode)
	}
	seen := map[string]bool{}
	for _, v := range spec.Volumes {
		switch {
		case !validName(v.GetName()):
			return nil, bad("volume name %q: want [a-z0-9][a-z0-9._-]{0,62}", v.GetName())
		case seen[v.Name]:
			return nil, bad("two volumes are named %s", v.Name)
		case v.SizeBytes == 0 || v.SizeBytes > maxVolumeBytes || v.SizeBytes%512 != 0:
			return nil, bad("volume %s of %d bytes: want a multiple of 512, at most 16T", v.Name, v.SizeBytes)
		}
		seen[v.Name] = true
	}
	for _, d := range spec.SharedDisks {
		if host, port, err := net.SplitHostPort(d); err != nil && !strings.HasPrefix(d, "/") || len(d) > 255 || err == nil && (host == "" || port == "") {
			return nil, bad("shared disk %q: want HOST:PORT, as all hosts reach it, or the path of a unix socket", d)
		}
	}
	if err := checkEpoch(spec.Epoch); err != nil {
		return nil, err
	}
	for what, d := range map[string]*durationpb.Duration{"suspect_after": spec.SuspectAfter, "lag_max": spec.LagMax} {
		if d != nil && (d.AsDuration() < time.Millisecond || d.AsDuration() > time.Hour) {
			return nil, bad("%s of %v: want 1ms to 1h", what, d.AsDuration())
		}
	}
	return proto.Clone(spec).(*api.MachineSpec), nil
}

func checkEpoch(d *durationpb.Duration) error {
	if d != nil && (d.AsDuration() < time.Millisecond || d.AsDuration() > 10*time.Second) {
		return refuse(connect.CodeInvalidArgument, "", "epoch of %v: want 1ms to 10s", d.AsDuration())
	}
	return nil
}
