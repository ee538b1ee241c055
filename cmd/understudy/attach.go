package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	api "understudy/api/understudy/v1"
)

// detachKey is Ctrl-].
const detachKey = 0x1d

func attachCommand() *cobra.Command {
	var (
		o       clientFlags
		console int
	)
	c := &cobra.Command{
		Use:   "attach NAME",
		Short: "Use the console of a machine",
		Long: `Connects this terminal with the console of a machine, through failovers. Leave with Ctrl-]: the machine goes on.
Begins with the last lines that the guest has said.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := o.dial()
			if err != nil {
				return err
			}
			return attach(c, f, args[0], int32(console))
		},
	}
	c.ValidArgsFunction = completeMachines(&o, isLive)
	o.add(c.Flags())
	c.Flags().IntVar(&console, "console", 0, "number of the console")
	return c
}

func attach(c *cobra.Command, f *fleet, name string, console int32) error {
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	v := consoleView{fleet: f, name: name, console: console, out: c.OutOrStdout()}
	if err := v.tail(ctx, 10); err != nil {
		return f.explain(err)
	}
	in := c.InOrStdin()
	raw := false
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprintf(c.ErrOrStderr(), "Attached to %s. Leave with Ctrl-].\n", name)
		before, err := term.MakeRaw(int(file.Fd()))
		if err != nil {
			return fmt.Errorf("use the terminal: %w", err)
		}
		raw = true
		defer func() {
			_ = term.Restore(int(file.Fd()), before)
			fmt.Fprintln(c.ErrOrStderr())
		}()
	}
	done := make(chan error, 2)
	go func() { done <- v.copy(ctx, true) }()
	go func() {
		// At the end of a pipe what the guest answers is still shown; at a terminal only Ctrl-] leaves.
		if err := typeInto(ctx, f, name, console, in); err != nil || raw {
			done <- err
		}
	}()
	err := <-done
	if errors.Is(err, context.Canceled) {
		return err
	}
	return f.explain(err)
}

// typeInto sends what is typed until Ctrl-] or the input's end.
func typeInto(ctx context.Context, f *fleet, name string, console int32, in io.Reader) error {
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		data, leave := buf[:n], false
		if at := bytes.IndexByte(data, detachKey); at >= 0 {
			data, leave = data[:at], true
		}
		if len(data) > 0 {
			if err := typeKeys(ctx, f, &api.TypeRequest{Name: name, Data: data, Console: console}); err != nil {
				return err
			}
		}
		switch {
		case leave, errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// typeKeys sends keys. They may be lost when a primary dies just then, as on any line, but are never typed twice.
func typeKeys(ctx context.Context, f *fleet, req *api.TypeRequest) error {
	for {
		_, err := f.Type(ctx, req)
		if err == nil || connect.CodeOf(err) != connect.CodeUnavailable || ctx.Err() != nil {
			return err
		}
		if !notSent(err) {
			return nil
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return err
		}
	}
}
