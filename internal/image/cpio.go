package image

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
)

// tree is the content of an initramfs: path without a leading slash → entry.
type tree map[string]cpio.Record

func (t tree) file(name string, data []byte, perm uint64) {
	t[name] = cpio.StaticRecord(data, cpio.Info{Name: name, Mode: cpio.S_IFREG | perm})
}

func (t tree) link(name, target string) { t[name] = cpio.Symlink(name, target) }

func (t tree) dir(name string, perm uint64) { t[name] = cpio.Directory(name, perm) }

func (t tree) charDevice(name string, perm, major, minor uint64) {
	t[name] = cpio.CharDev(name, perm, major, minor)
}

// pack writes the newc archive that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst):
// sorted, parents first, times and owners zero, so that the same content gives the same bytes. It is not compressed: an
// interpreted machine copies far quicker than it inflates.
func (t tree) pack() ([]byte, error) {
	for name := range t {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := t[dir]; !ok {
				t.dir(dir, 0o755)
			}
		}
	}
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	// By parts, so that "a/b" comes right behind "a", before "a-b".
	slices.SortFunc(names, func(a, b string) int {
		return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
	})
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	for i, name := range names {
		r := cpio.MakeReproducible(t[name])
		r.Ino = uint64(i + 1)
		if err := w.WriteRecord(r); err != nil {
			return nil, fmt.Errorf("pack initramfs: %s: %w", name, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("pack initramfs: %w", err)
	}
	return out.Bytes(), nil
}
