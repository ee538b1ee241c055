package agent

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	pb "understudy/api/understudy/v1"
)

// job is an assignment with what all assignments share.
type job struct {
	*pb.Assignment
	views   []string
	arbiter string
}

// GetStopped is also for the job that is not there: one to be removed.
func (j *job) GetStopped() bool { return j != nil && j.Assignment.GetStopped() }

func (j *job) name() string { return orElse(j.GetSpec().GetName(), j.GetGroup()) }

// check refuses what cannot be run, so that nothing of it reaches a file's name or a command line.
func (j *job) check() error {
	switch {
	case !validID.MatchString(j.GetId()):
		return fmt.Errorf("assignment of group %q: id %q is not a name", j.GetGroup(), j.GetId())
	case j.GetGroup() == "":
		return fmt.Errorf("assignment %s names no group", j.GetId())
	}
	seen := map[string]bool{}
	for _, v := range j.GetSpec().GetVolumes() {
		if v.GetSizeBytes() == 0 || v.GetSizeBytes()%512 != 0 || v.GetSizeBytes() > 1<<50 {
			return fmt.Errorf("volume %q: %d bytes: want a multiple of 512", v.GetName(), v.GetSizeBytes())
		}
		if seen[v.GetName()] {
			return fmt.Errorf("volume %q is there twice", v.GetName())
		}
		seen[v.GetName()] = true
	}
	return nil
}

// life is what one life of a replica is started with.
type life struct {
	stateDir string
	socket   string
	founding bool
	image    string // directory; with founding
	disks    []string
}

// replicaArgs is the command line of a replica: `understudy replica` and its flags.
func replicaArgs(o *Options, j *job, l life) []string {
	args := []string{"replica"}
	flag := func(name, value string) {
		if value != "" {
			// One word, so that no value can be taken for a flag.
			args = append(args, "--"+name+"="+value)
		}
	}
	duration := func(name string, d time.Duration) {
		if d > 0 {
			flag(name, d.String())
		}
	}
	s := j.GetSpec()
	flag("name", o.Name)
	flag("group", j.GetGroup())
	flag("views", strings.Join(j.views, ","))
	flag("arbiter", j.arbiter)
	flag("listen", joinAnyPort(o.Advertise))
	flag("status", l.socket)
	flag("state-dir", l.stateDir)
	flag("lan", j.GetLan())
	flag("tls-dir", o.TLSDir)
	suspect := s.GetSuspectAfter().AsDuration()
	if suspect <= 0 {
		suspect = o.SuspectAfter
	}
	duration("suspect-after", suspect)
	duration("lag-max", s.GetLagMax().AsDuration())
	if s.GetBandwidthBytes() > 0 {
		flag("bandwidth", strconv.FormatUint(s.GetBandwidthBytes(), 10))
	}
	if s.GetMode() == pb.Mode_MODE_CHECKPOINT {
		flag("mode", "checkpoint")
		duration("epoch", s.GetEpoch().AsDuration())
	}
	if len(s.GetSharedDisks()) > 0 {
		// The name without the number of this start.
		flag("take-shared-disk", j.GetGroup()[:strings.LastIndex(j.GetGroup(), "-")+1])
	}
	if !l.founding {
		return args // all else comes from the primary
	}
	if s.GetMemBytes() > 0 {
		flag("mem", strconv.FormatUint(s.GetMemBytes(), 10))
	}
	flag("cmdline", s.GetCmdline())
	for _, d := range l.disks {
		flag("disk", d)
	}
	for _, d := range s.GetSharedDisks() {
		flag("shared-disk", d)
	}
	if s.GetSharedDiskReads() == pb.SharedDiskReads_SHARED_DISK_READS_DISK {
		flag("shared-disk-reads", "disk")
	}
	return append(args, "--", l.image)
}

// joinAnyPort is an address at which the kernel picks the port.
func joinAnyPort(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]:0"
	}
	return host + ":0"
}

const (
	backoffFirst = time.Second
	backoffMost  = 30 * time.Second
	// settledAfter is how long a life must last for earlier failures to be forgotten.
	settledAfter = time.Minute
	// haltsAtOnce is how many lives in a row may halt before the next one waits.
	haltsAtOnce = 5
)

// backoff says how long to wait before the next life.
type backoff struct{ failures, halts int }

// after gives the wait after a life that ended with that code.
func (b *backoff) after(code int, lived time.Duration) time.Duration {
	if lived >= settledAfter {
		*b = backoff{}
	}
	if code == exitHalted {
		// Its host is well and its part may be needed at once. Lives that do nothing but halt must not
		// eat the machine, though.
		b.halts++
		return growing(b.halts - haltsAtOnce)
	}
	b.failures++
	return growing(b.failures - 1)
}

// growing is 0, then backoffFirst, doubling to backoffMost.
func growing(n int) time.Duration {
	if n <= 0 {
		return 0
	}
	return min(backoffFirst<<min(n-1, 10), backoffMost)
}
