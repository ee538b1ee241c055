// Command understudy runs ordinary Linux programs so that they survive the death of the machine under them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes. A guest's own end uses the first three.
const (
	exitOK      = 0
	exitFailure = 1   // the guest reported a system failure; a demo lost something
	exitReboot  = 3   // the guest asked for a reboot
	exitHalted  = 4   // a replica lost its part: the other side won the view, or they diverged
	exitOurs    = 125 // our own error
	exitSignal  = 130 // ended by Ctrl-C
)

// exitError carries an exit code out of a command. An empty message prints nothing.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// hint adds to an error what to do about it.
type hint struct {
	error
	try string
}

func (h *hint) Unwrap() error { return h.error }

// Try is what to do about the error. Errors of other packages have it too.
func (h *hint) Try() string { return h.try }

func withHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hint{err, fmt.Sprintf(format, args...)}
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	root := &cobra.Command{
		Use:   "understudy",
		Short: "Keeps a Linux program running when the machine under it dies",
		Long: `Understudy runs an ordinary Linux program in a deterministic virtual machine, and an understudy of that
machine on a second host. When the first host dies the second goes on at exactly that instruction: no
acknowledged output is lost and TCP connections stay open.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	var profile string
	root.PersistentFlags().StringVar(&profile, "cpuprofile", "", "write a processor profile of this process to a file (for developers)")
	_ = root.PersistentFlags().MarkHidden("cpuprofile")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if profile == "" {
			return nil
		}
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		return pprof.StartCPUProfile(f)
	}
	defer pprof.StopCPUProfile()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(demoCommand(), bootCommand(), replicaCommand(), lanCommand(), diskCommand(), arbiterCommand(), hostCommand(), imageCommand(), certCommand(), simCommand(), versionCommand(),
		controlCommand(), runCommand(), psCommand(), inspectCommand(), logsCommand(), attachCommand(), failoverCommand(), modeCommand(),
		stopCommand(), startCommand(), rmCommand(), hostsCommand(), drainCommand(), eventsCommand(), tortureCommand(), kvCommand())
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitOurs
	var e *exitError
	switch {
	case errors.As(err, &e):
		code = e.code
	case ctx.Err() != nil:
		return exitSignal // by the user's own wish: there is nothing to explain
	}
	if msg := err.Error(); msg != "" {
		fmt.Fprintf(stderr, "Error: %s\n", msg)
		var h interface{ Try() string }
		if errors.As(err, &h) && h.Try() != "" {
			fmt.Fprintf(stderr, "Try: %s\n", h.Try())
		}
	}
	return code
}
