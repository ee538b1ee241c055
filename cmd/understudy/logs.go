package main

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	api "understudy/api/understudy/v1"
)

func logsCommand() *cobra.Command {
	var (
		o             clientFlags
		follow        bool
		tail, console int
	)
	c := &cobra.Command{
		Use:   "logs NAME",
		Short: "Show what a guest has said on its console",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := o.dial()
			if err != nil {
				return err
			}
			v := consoleView{fleet: f, name: args[0], console: int32(console), out: c.OutOrStdout()}
			if tail < 0 {
				return f.explain(v.copy(c.Context(), follow))
			}
			if err := v.tail(c.Context(), tail); err != nil || !follow {
				return f.explain(err)
			}
			return f.explain(v.copy(c.Context(), true))
		},
	}
	c.ValidArgsFunction = completeMachines(&o, nil)
	o.add(c.Flags())
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on as the guest speaks, through failovers")
	c.Flags().IntVarP(&tail, "tail", "n", -1, "begin with this many lines from the end (default: all there is)")
	c.Flags().IntVar(&console, "console", 0, "number of the console")
	return c
}

// consoleView reads a console. The offset that it has come to means the same on every replica, so that a failover, or a
// restart of control, is no break.
type consoleView struct {
	*fleet
	name    string
	console int32
	out     io.Writer
	at      int64
}

// copy writes what there is from the offset on and, with follow, what comes.
func (v *consoleView) copy(ctx context.Context, follow bool) error {
	heard := false
	for {
		err := v.once(ctx, follow, func(b []byte) error {
			heard = true
			_, err := v.out.Write(b)
			return err
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return nil
		case !follow || !heard || !isAway(err):
			return err
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return err
		}
	}
}

func (v *consoleView) once(ctx context.Context, follow bool, write func([]byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := v.Console(ctx, &api.ConsoleRequest{Name: v.name, From: v.at, Follow: follow, Console: v.console})
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		m := stream.Msg()
		if err := write(m.Data); err != nil {
			return err
		}
		v.at = m.Offset + int64(len(m.Data))
	}
	return stream.Err()
}

// maxTailBytes bounds what is kept to find the last lines in.
const maxTailBytes = 4 << 20

// tail writes the last lines of what there is.
func (v *consoleView) tail(ctx context.Context, lines int) error {
	var kept []byte
	err := v.once(ctx, false, func(b []byte) error {
		if kept = append(kept, b...); len(kept) > 2*maxTailBytes {
			kept = append([]byte(nil), kept[len(kept)-maxTailBytes:]...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = v.out.Write(lastLines(kept, lines))
	return err
}

// lastLines returns the last lines of text; one that is not finished counts.
func lastLines(text []byte, lines int) []byte {
	at := len(text)
	if at > 0 && text[at-1] == '\n' {
		at--
	}
	for range lines {
		i := bytes.LastIndexByte(text[:at], '\n')
		if i < 0 {
			return text
		}
		at = i
	}
	if lines == 0 {
		return nil
	}
	return text[at+1:]
}
