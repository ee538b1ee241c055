package torture

import (
	"bytes"
	"context"
	"fmt"
	"time"

	api "understudy/api/understudy/v1"
)

// consoleMaxBytes bounds what is looked at of the console.
const consoleMaxBytes = 1 << 20

// alarms are words of the guest's kernel that a machine whose hosts die must not say.
var alarms = []string{"Kernel panic", "BUG:", "Oops", "EXT4-fs error", "I/O error"}

// console is what the guest was seen to say.
type console struct {
	from int64 // offset of the first byte of text
	text []byte
}

// hear takes what the guest has said as of now, from an offset on. What was seen before must be the beginning of it; short
// tells that it is not all there.
func (c *console) hear(from int64, text []byte) (short bool, v *Violation) {
	if c.text != nil && from > c.from {
		// The hosts keep the newest part only.
		if cut := from - c.from; cut < int64(len(c.text)) {
			c.text = c.text[cut:]
		} else {
			c.text = nil
		}
		c.from = from
	}
	if c.text != nil && from < c.from {
		text = text[min(c.from-from, int64(len(text))):]
	}
	both := min(len(text), len(c.text))
	for i := range both {
		if text[i] != c.text[i] {
			return false, violation(Wrong, "the console has changed at byte %d: %q, and was %q", c.from+int64(i), clip(text[i:]), clip(c.text[i:]))
		}
	}
	if len(text) < len(c.text) {
		return true, nil
	}
	if c.text == nil {
		c.from = from
	}
	c.text = text
	for _, words := range alarms {
		if i := bytes.Index(text, []byte(words)); i >= 0 {
			return false, violation(Wrong, "the guest says: %q", clip(text[i:]))
		}
	}
	return false, nil
}

func clip(b []byte) []byte { return b[:min(len(b), 80)] }

// checkConsole reads the guest's console from its beginning and compares it with what was read before.
func (r *run) checkConsole(ctx context.Context) error {
	for {
		from, text, err := r.readConsole(ctx)
		if err == nil {
			short, v := r.console.hear(from, text)
			switch {
			case v != nil:
				return v
			case !short:
				return nil
			}
			err = fmt.Errorf("it ends at byte %d, and went on to %d", from+int64(len(text)), r.console.from+int64(len(r.console.text)))
		}
		pause(ctx, 200*time.Millisecond)
		if ctx.Err() != nil {
			return violation(Lost, "the guest's console cannot be read again: %v", err)
		}
	}
}

func (r *run) readConsole(ctx context.Context) (from int64, text []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	stream, err := r.f.api.Console(ctx, &api.ConsoleRequest{Name: machineName})
	if err != nil {
		return 0, nil, err
	}
	defer stream.Close()
	from = -1
	for stream.Receive() && len(text) < consoleMaxBytes {
		chunk := stream.Msg()
		if from < 0 {
			from = chunk.Offset
		}
		if chunk.Offset != from+int64(len(text)) {
			return 0, nil, fmt.Errorf("bytes %d to %d are missing", from+int64(len(text)), chunk.Offset)
		}
		text = append(text, chunk.Data...)
	}
	return max(from, 0), text, stream.Err()
}
