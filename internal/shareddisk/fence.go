package shareddisk

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"understudy/arbiter"
)

// fenceMagic is the first line of a fence's file; docs/formats.md has the rest.
const fenceMagic = "understudy-shared-disk 1\n"

const (
	maxFenceBytes = 64 << 10
	// maxFormer is how many groups that have lost the disk are remembered, newest first.
	maxFormer = 128
)

// fence is who may use a disk. It is kept in a file beside the disk, and a change counts when it is durable there.
type fence struct {
	path   string
	broken error // a change could not be made durable: what the file says is not known
	fenceRecord
}

type fenceRecord struct {
	Disk   string   `json:"disk"`  // the disk's identity: 32 random bytes, hexadecimal
	Group  string   `json:"group"` // whose disk it is; empty: nobody's
	View   uint64   `json:"view"`  // the highest that was announced; 0: none
	Host   string   `json:"host"`  // who leads it
	Life   string   `json:"life"`
	Former []string `json:"former"` // groups that have lost the disk, newest first
}

// refused says why an announcement was not taken.
type refused struct {
	text   string
	fenced bool // and never will be
}

func (e *refused) Error() string { return e.text }

// BadFenceError says that the file beside a disk cannot be what this package wrote.
type BadFenceError struct {
	Path string
	What string
}

func (e *BadFenceError) Error() string {
	return fmt.Sprintf("read %s, which says who may use the disk: %s", e.Path, e.What)
}

// Try says what to do next.
func (e *BadFenceError) Try() string {
	return "make sure that no replica that used the disk still runs, then remove " + e.Path
}

func fencePath(disk string) string { return disk + ".fence" }

// openFence reads the fence of a disk, or makes the first one.
func openFence(diskPath string) (*fence, error) {
	f := &fence{path: fencePath(diskPath)}
	file, err := os.Open(f.path)
	if errors.Is(err, os.ErrNotExist) {
		id := make([]byte, 32)
		rand.Read(id)
		f.Disk = hex.EncodeToString(id)
		return f, f.save(f.fenceRecord)
	}
	if err != nil {
		return nil, fmt.Errorf("open fence: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxFenceBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read fence: %w", err)
	}
	if f.fenceRecord, err = parseFence(b); err != nil {
		return nil, &BadFenceError{f.path, err.Error()}
	}
	return f, nil
}

func encodeFence(r fenceRecord) []byte {
	body, err := json.Marshal(r)
	if err != nil {
		panic(err) // of strings and numbers
	}
	b := append([]byte(fenceMagic), body...)
	return fmt.Appendf(b, "\n%08x\n", crc32.Checksum(body, castagnoli))
}

func parseFence(b []byte) (r fenceRecord, err error) {
	body, ok := bytes.CutPrefix(b, []byte(fenceMagic))
	if !ok || len(b) > maxFenceBytes {
		return r, errors.New("not a fence, or of another version")
	}
	body, sum, ok := bytes.Cut(body, []byte("\n"))
	if !ok || string(sum) != fmt.Sprintf("%08x\n", crc32.Checksum(body, castagnoli)) {
		return r, errors.New("damaged or cut short")
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return r, err
	}
	if id, err := hex.DecodeString(r.Disk); err != nil || len(id) != 32 {
		return r, errors.New("no identity")
	}
	return r, nil
}

// save makes r durable, and then the fence.
func (f *fence) save(r fenceRecord) (err error) {
	if f.broken != nil {
		return f.broken
	}
	defer func() {
		if err != nil {
			f.broken = fmt.Errorf("write fence: %w", err)
			err = f.broken
		}
	}()
	tmp := f.path + ".new"
	file, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(encodeFence(r))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, f.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return err
	}
	f.fenceRecord = r
	return nil
}

// check tells whether h may lead. View 0 asks for any view to come.
func (f *fence) check(h *hello) *refused {
	switch {
	case arbiter.ValidGroup(h.Group) != nil || h.Host == "" || h.Life == "" || len(h.Host)+len(h.Life) > 1024:
		return &refused{text: "group, host or life missing or malformed"}
	case h.Group == f.Group && h.View == 0:
		return nil
	case h.Group == f.Group && h.View < f.View:
		return &refused{fmt.Sprintf("view %d is over: %s leads view %d", h.View, f.Host, f.View), true}
	case h.Group == f.Group && h.View == f.View && h.Life != f.Life:
		return &refused{fmt.Sprintf("view %d is led by %s, of another life", h.View, f.Host), true}
	case h.Group == f.Group:
		return nil
	case slices.Contains(f.Former, h.Group):
		return &refused{fmt.Sprintf("group %s has lost the disk", h.Group), true}
	case f.Group != "" && (h.Takes == "" || !strings.HasPrefix(f.Group, h.Takes)):
		return &refused{text: fmt.Sprintf("the disk belongs to group %s (if that has ended: understudy disk --free)", f.Group)}
	}
	return nil
}

// checkReader tells whether h may read what its group has on the disk. Who leads the group is no matter.
func (f *fence) checkReader(h *hello) *refused {
	switch {
	case arbiter.ValidGroup(h.Group) != nil || h.Host == "" || h.Life == "" || h.View != 0:
		return &refused{text: "group, host or life missing or malformed, or a view"}
	case h.Group == f.Group:
		return nil
	case slices.Contains(f.Former, h.Group):
		return &refused{fmt.Sprintf("group %s has lost the disk", h.Group), true}
	}
	return &refused{text: fmt.Sprintf("group %s has nothing on the disk", h.Group)}
}

// announce takes h for the one who leads from now on. A *refused says that it is not.
func (f *fence) announce(h *hello) error {
	if f.broken != nil {
		return f.broken
	}
	if r := f.check(h); r != nil {
		return r
	}
	if h.Group == f.Group && h.View == f.View {
		return nil
	}
	r := f.fenceRecord
	if r.Group != h.Group {
		r = r.without()
	}
	r.Group, r.View, r.Host, r.Life = h.Group, h.View, h.Host, h.Life
	return f.save(r)
}

// free takes the disk from the group that has it.
func (f *fence) free() error {
	if f.Group == "" {
		return nil
	}
	return f.save(f.without())
}

// without is the record when its group has lost the disk.
func (r fenceRecord) without() fenceRecord {
	if r.Group != "" {
		r.Former = append([]string{r.Group}, r.Former...)
		r.Former = r.Former[:min(len(r.Former), maxFormer)]
	}
	r.Group, r.View, r.Host, r.Life = "", 0, "", ""
	return r
}
