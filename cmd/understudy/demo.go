package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"understudy/internal/demo"
	"understudy/internal/host"
	"understudy/internal/image"
	"understudy/internal/image/debian"
	"understudy/internal/image/progress"
)

// demoSuspectAfter is larger than a replica's default: all of the demo shares one host with whatever else
// runs there, and a side that is starved of its processor must not look dead.
const demoSuspectAfter = 500 * time.Millisecond

func demoCommand() *cobra.Command {
	var (
		asJSON, keep bool
		forward      string
		o            demo.Options
		archive      debian.Options
	)
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show a Debian VM that survives kill -9 of its primary",
		Long: `Fetches Debian's riscv64 kernel and redis-server (verified, cached), starts a virtual LAN, an arbiter and two hosts as
processes of their own, boots the machine on both in lockstep, writes to Redis over one TCP connection, kills one host with
SIGKILL under load, and checks that every acknowledged write is there and that the connection lives.

Exit code 0 only if nothing was lost or done twice and the connection lived. Ctrl-C leaves no process and no file behind.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			recipe, err := image.FindRecipe("redis")
			if err != nil {
				return err
			}
			p := progress.New(os.Stderr)
			im, err := image.Build(c.Context(), recipe, image.BuildOptions{Archive: archive}, p)
			p.Close()
			if err != nil {
				return err
			}
			o.Pair.Image = im
			o.Pair.Forward = forward
			o.View = c.ErrOrStderr()
			o.Plain = asJSON || !term.IsTerminal(int(os.Stderr.Fd()))
			show := func(rep *demo.Report) {
				if asJSON {
					_ = json.NewEncoder(c.OutOrStdout()).Encode(rep)
				} else {
					rep.Print(c.OutOrStdout())
				}
			}
			if keep {
				o.Keep = func(rep *demo.Report, addr string, s host.Status) {
					show(rep)
					sayKept(c.ErrOrStderr(), addr, s)
				}
			}
			rep, err := demo.Run(c.Context(), o)
			if err != nil {
				rep.Error = err.Error()
				if asJSON && c.Context().Err() == nil {
					show(rep)
				}
				return err
			}
			if !rep.Kept {
				show(rep)
			}
			if !rep.OK() {
				return &exitError{code: exitFailure, err: fmt.Errorf("the demo failed: see the report")}
			}
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print the report as one JSON object on stdout")
	f.BoolVar(&keep, "keep", false, "leave the surviving machine running until Ctrl-C")
	f.StringVar(&o.Kill, "kill", "primary", "which side to kill: primary or backup")
	f.StringVar(&forward, "forward", "127.0.0.1:0", "where Redis in the guest is reached from this host; port 0 is any free one")
	f.DurationVar(&o.Load, "load", 3*time.Second, "how long to write before the kill and after it")
	f.DurationVar(&o.Boot, "boot-timeout", 5*time.Minute, "how long the guest may take to boot")
	f.DurationVar(&o.Pair.SuspectAfter, "suspect-after", demoSuspectAfter, "silence after which the other side is suspected to be dead; a killed process is noticed at once")
	f.StringVar(&archive.Mirror, "mirror", "", "URL of a Debian mirror (default: UNDERSTUDY_MIRROR, or apt's)")
	return c
}

func sayKept(w io.Writer, addr string, s host.Status) {
	host, port, _ := net.SplitHostPort(addr)
	fmt.Fprintf(w, "\nhost %s keeps the machine running in view %d. Talk to it with\n\n  redis-cli -h %s -p %s\n\nCtrl-C ends it.\n", s.Name, s.View, host, port)
}
