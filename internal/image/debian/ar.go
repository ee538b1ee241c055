package debian

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// arHeaderBytes is the fixed size of a member header in an ar(5) archive, "common" variant: name 16, mtime 12, uid 6,
// gid 6, mode 8, size 10, magic 2.
const arHeaderBytes = 60

const arMagic = "!<arch>\n"

// arMember is one file within an ar archive.
type arMember struct {
	Name string
	// Data is the member's content; the size is bounded by the archive's.
	Data *io.SectionReader
}

// readAr lists the members of the ar archive r of sizeBytes bytes. Names are the short ones that .deb files have
// (deb(5): "debian-binary", "control.tar.*", "data.tar.*"); the GNU and BSD long-name forms are refused.
func readAr(r io.ReaderAt, sizeBytes int64) ([]arMember, error) {
	const maxMembers = 64
	magic := make([]byte, len(arMagic))
	if _, err := r.ReadAt(magic, 0); err != nil || string(magic) != arMagic {
		return nil, fmt.Errorf("%w ar archive: it does not start with \"!<arch>\"", ErrFormat)
	}
	var members []arMember
	for off := int64(len(arMagic)); off < sizeBytes; {
		if len(members) == maxMembers {
			return nil, fmt.Errorf("%w ar archive: more than %d members", ErrFormat, maxMembers)
		}
		var h [arHeaderBytes]byte
		if sizeBytes-off < arHeaderBytes {
			return nil, fmt.Errorf("%w ar archive: it ends within the header at %d", ErrFormat, off)
		}
		if _, err := r.ReadAt(h[:], off); err != nil {
			return nil, fmt.Errorf("read ar header at %d: %w", off, err)
		}
		if h[58] != '`' || h[59] != '\n' {
			return nil, fmt.Errorf("%w ar archive: no member header at %d", ErrFormat, off)
		}
		name := strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
		if name == "" || strings.ContainsAny(name, "/#\x00") {
			return nil, fmt.Errorf("%w ar archive: member name %q at %d", ErrFormat, name, off)
		}
		size, err := strconv.ParseUint(strings.TrimRight(string(h[48:58]), " "), 10, 40)
		if err != nil {
			return nil, fmt.Errorf("%w ar archive: size of member %q", ErrFormat, name)
		}
		off += arHeaderBytes
		if int64(size) > sizeBytes-off {
			return nil, fmt.Errorf("%w ar archive: member %q is cut off (%d of %d bytes)", ErrFormat, name, sizeBytes-off, size)
		}
		members = append(members, arMember{Name: name, Data: io.NewSectionReader(r, off, int64(size))})
		off += int64(size) + int64(size)&1 // members start on even offsets
	}
	return members, nil
}
