package debian

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Limits on control files; the longest line in Debian's Packages has some 20 kB.
const (
	controlMaxLineBytes = 1 << 20
	controlMaxFieldByte = 16 << 20
)

// controlReader reads the paragraphs of a deb822(5) file: "Field: value", continued on lines that start with a blank.
type controlReader struct {
	scan *bufio.Scanner
	// keep tells which fields are kept (lower case); nil keeps all.
	keep map[string]bool
}

func newControlReader(r io.Reader, keep ...string) *controlReader {
	c := &controlReader{scan: bufio.NewScanner(r)}
	c.scan.Buffer(make([]byte, 1<<16), controlMaxLineBytes)
	for _, k := range keep {
		if c.keep == nil {
			c.keep = map[string]bool{}
		}
		c.keep[k] = true
	}
	return c
}

// next gives the next paragraph with lower-case field names, io.EOF after the last. The lines of a value are joined
// by "\n", their leading blank removed.
func (c *controlReader) next() (map[string]string, error) {
	fields := map[string]string{}
	var last string // field that a continuation line belongs to; "" when it is not kept
	var seen bool   // a field line was read in this paragraph
	for c.scan.Scan() {
		line := c.scan.Bytes()
		switch {
		case len(bytes.TrimSpace(line)) == 0:
			if seen {
				return fields, nil
			}
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if !seen {
				return nil, fmt.Errorf("%w control file: continuation line %.40q without a field", ErrFormat, line)
			}
			if last != "" {
				if len(fields[last]) > controlMaxFieldByte {
					return nil, fmt.Errorf("%w control file: field %q is too long", ErrFormat, last)
				}
				fields[last] += "\n" + string(bytes.TrimSpace(line))
			}
		default:
			name, value, ok := bytes.Cut(line, []byte{':'})
			if !ok || len(name) == 0 {
				return nil, fmt.Errorf("%w control file: line %.40q is no field", ErrFormat, line)
			}
			seen = true
			key := lowerKey(name)
			last = ""
			if c.keep == nil || c.keep[key] {
				fields[key] = string(bytes.TrimSpace(value))
				last = key
			}
		}
	}
	if err := c.scan.Err(); err != nil {
		return nil, fmt.Errorf("read control file: %w", err)
	}
	if seen {
		return fields, nil
	}
	return nil, io.EOF
}

func lowerKey(name []byte) string { return strings.ToLower(string(bytes.TrimSpace(name))) }
