package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	api "understudy/api/understudy/v1"
	"understudy/internal/e2e/fleet"
	"understudy/internal/image"
	"understudy/internal/shareddisk/diskguest"
)

// sharedImage makes an image of a guest that works on a shared disk.
func sharedImage(t *testing.T, kernel []byte) string {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, content []byte) image.File {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		return image.File{File: name, Bytes: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
	}
	m := image.Manifest{Format: 1, Name: "diskguest", Arch: "riscv64", MemBytes: 32 << 20}
	m.Kernel, m.Initrd = file("kernel", kernel), file("initrd", nil)
	p, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	file("image.json", p)
	return dir
}

// TestFleetSharedDisk: a machine whose disk is shared, in a fleet, with either way of what it reads to its backup. Its
// host dies; the other goes on with the disk, and the host that comes back becomes its backup. It is stopped and started
// anew, and its disk is still its own.
func TestFleetSharedDisk(t *testing.T) {
	long(t)
	for _, reads := range []string{"log", "disk"} {
		t.Run(reads, func(t *testing.T) {
			f, err := fleet.Start(t.Context(), fleet.Options{Exe: exe, Hosts: []string{"a", "b"}, SuspectAfter: fleetSuspect, DeadAfter: fleetDeadAfter})
			if err != nil {
				t.Fatal(err)
			}
			w := &web{Fleet: f, t: t}
			t.Cleanup(func() {
				if t.Failed() {
					w.narrate(t)
				}
				f.Close()
			})
			file := filepath.Join(f.Dir, "shared.raw")
			disk, err := f.Group.Start(t.Context(), "disk", "disk", "--file", file, "--create", "512K", "--listen", "127.0.0.1:0", "--status", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			more := func(n uint64) {
				t.Helper()
				from := diskStatus(t, disk).Requests
				wait(t, "more requests of the disk", func() (bool, string) { return diskStatus(t, disk).Requests >= from+n*diskguest.Burst, disk.Log() })
			}
			// With a network device the disk is the fourth on the board.
			w.cli(t, "run", "-d", "--name", "web", "--shared-disk", disk.Ready.Listen, "--shared-disk-reads", reads, sharedImage(t, diskguest.Overwriter(3, 0)))
			// This guest says at no console that it is up.
			inSync := func(n *api.Machine) bool { return n.Protection == "protected" && n.InSync }
			m := w.until(t, "protected", inSync)
			if out := w.cli(t, "inspect", "web"); !strings.Contains(out, disk.Ready.Listen) {
				t.Errorf("inspect does not tell of the disk:\n%s", out)
			}
			follow := func(m *api.Machine) {
				t.Helper()
				from := diskStatus(t, disk)
				more(20)
				p, b := w.replica(t, m.Primary), w.replica(t, m.Backup)
				if p.SharedDiskReads != reads || b.SharedDiskReads != reads || len(p.SharedDisks) != 1 || !p.SharedDisks[0].Up {
					t.Errorf("the primary: %+v; the backup: %+v", p, b)
				}
				s := diskStatus(t, disk)
				if by := s.BackupReads > from.BackupReads; by != (reads == "disk") || s.Host != m.Primary {
					t.Errorf("the disk: %+v", s)
				}
				wait(t, "an equal digest on the backup", func() (bool, string) { return w.replica(t, m.Backup).DigestAt > p.Position, "" })
			}
			follow(m)
			w.die(t, m.Primary)
			now := w.takenOver(t, m)
			more(20)
			w.start(t, m.Primary)
			now = w.until(t, "protected again", func(n *api.Machine) bool { return inSync(n) && n.View > now.View })
			follow(now)
			w.cli(t, "failover", "web")
			follow(w.until(t, "handed over", func(n *api.Machine) bool { return inSync(n) && n.Primary != now.Primary }))

			w.cli(t, "stop", "web")
			w.until(t, "stopped", func(n *api.Machine) bool { return n.State == "stopped" })
			before := diskStatus(t, disk)
			w.cli(t, "start", "web")
			follow(w.until(t, "protected", inSync))
			if s := diskStatus(t, disk); s.Group == before.Group || s.Refused != before.Refused {
				t.Errorf("the disk of the second start: %+v, of the first: %+v", s, before)
			}
			w.cli(t, "rm", "-f", "web")
			if err := disk.Kill(); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := diskguest.NewestOverwritten(content); err != nil {
				t.Error(err)
			}
		})
	}
}
