package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	api "understudy/api/understudy/v1"
	"understudy/internal/image"
	"understudy/internal/image/debian"
	"understudy/internal/image/progress"
	"understudy/internal/torture"
)

func tortureCommand() *cobra.Command {
	var (
		o          torture.Options
		mode, keep string
		minutes    float64
		asJSON     bool
		archive    debian.Options
	)
	c := &cobra.Command{
		Use:   "torture",
		Short: "Harm a fleet again and again and check that nothing is lost",
		Long: `Starts control and three hosts as processes on loopback, protects a Redis guest, writes to it over connections that are
opened once, and then kills, stops and restarts hosts, replicas and control as a seed says. After each failure everything
that was acknowledged is read back.

Prints a row for each failure and a summary. Exit code 0 only if nothing was lost, doubled or done out of order, every
connection lived, and protection came back after each failure; 1 if not: then the logs are kept. Ctrl-C leaves no process
behind.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			modes, err := tortureModes(mode)
			if err != nil {
				return err
			}
			if minutes <= 0 && o.Failovers <= 0 {
				return fmt.Errorf("neither --minutes nor --failovers says when to end")
			}
			if o.SuspectAfter < 10*time.Millisecond || o.Bound <= 0 || o.Boot <= 0 {
				return fmt.Errorf("--suspect-after, --bound and --boot-timeout must be positive, and the first at least 10ms")
			}
			if o.Failovers > 0 && !c.Flags().Changed("minutes") {
				minutes = 0
			}
			if !c.Flags().Changed("seed") {
				o.Seed = rand.Uint64()
			}
			if o.Exe, err = os.Executable(); err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			recipe, err := image.FindRecipe("redis")
			if err != nil {
				return err
			}
			p := progress.New(os.Stderr)
			_, err = image.Build(c.Context(), recipe, image.BuildOptions{Archive: archive}, p)
			p.Close()
			if err != nil {
				return err
			}
			o.Image, o.Progress = "redis", c.ErrOrStderr()
			o.For = time.Duration(minutes / float64(len(modes)) * float64(time.Minute))
			out := c.OutOrStdout()
			if !asJSON {
				o.OnRow = func(r torture.Row) { r.Print(out) }
			}
			result := tortureJSON{Runs: []*torture.Report{}}
			for _, m := range modes {
				o.Mode = m
				rep, err := tortureOnce(c, o, keep, !asJSON)
				if err != nil {
					return err
				}
				result.Runs = append(result.Runs, rep)
				if result.OK = rep.OK(); !result.OK {
					break
				}
			}
			if asJSON {
				if err := writeJSON(out, result); err != nil {
					return err
				}
			}
			if !result.OK {
				return &exitError{code: exitFailure, err: errors.New("a promise was not kept: see the report")}
			}
			return nil
		},
	}
	f := c.Flags()
	f.Float64Var(&minutes, "minutes", 5, "how long to do harm, over all modes")
	f.Uint64Var(&o.Seed, "seed", 0, "what is harmed, and in which order (default: one is made up and told)")
	f.StringVar(&mode, "mode", "lockstep", "how the guest is protected: lockstep, checkpoint, or both, one after the other")
	f.IntVar(&o.Failovers, "failovers", 0, "end when the primary's part has moved so often in each mode")
	f.BoolVar(&asJSON, "json", false, "print the reports as one JSON object on stdout")
	f.StringVar(&keep, "keep", "", "use this directory, which must be empty or absent, and keep it")
	f.BoolVar(&o.Links, "netns", false, "hosts in network namespaces, with certificates, and cut their links too; needs root and ip")
	f.DurationVar(&o.SuspectAfter, "suspect-after", time.Second, "silence after which a replica suspects the other to be dead; all of the fleet shares this host's processors")
	f.DurationVar(&o.Bound, "bound", time.Minute, "within which service and protection must be back after a failure")
	f.DurationVar(&o.Boot, "boot-timeout", 5*time.Minute, "how long the guest may take to be up and protected")
	f.StringVar(&archive.Mirror, "mirror", "", "URL of a Debian mirror (default: UNDERSTUDY_MIRROR, or apt's)")
	_ = c.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]cobra.Completion{"lockstep", "checkpoint", "both"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// tortureJSON is what --json prints.
type tortureJSON struct {
	OK   bool              `json:"ok"`
	Runs []*torture.Report `json:"runs"`
}

func tortureModes(mode string) ([]api.Mode, error) {
	if mode == "both" {
		return []api.Mode{api.Mode_MODE_LOCKSTEP, api.Mode_MODE_CHECKPOINT}, nil
	}
	m, err := parseMode(mode)
	return []api.Mode{m}, err
}

// tortureOnce runs one mode in a directory of its own.
func tortureOnce(c *cobra.Command, o torture.Options, keep string, print bool) (*torture.Report, error) {
	name := "lockstep"
	if o.Mode == api.Mode_MODE_CHECKPOINT {
		name = "checkpoint"
	}
	var err error
	if keep == "" {
		o.Dir, err = os.MkdirTemp("", "understudy-torture-")
	} else {
		o.Dir, err = emptyDir(filepath.Join(keep, name))
	}
	if err != nil {
		return nil, err
	}
	if print {
		fmt.Fprintf(c.OutOrStdout(), "%s mode, seed %d\n", name, o.Seed)
		torture.PrintHeader(c.OutOrStdout())
	}
	rep, err := torture.Run(c.Context(), o)
	failed := err != nil && c.Context().Err() == nil || err == nil && !rep.OK()
	if keep != "" || failed {
		rep.Dir = o.Dir
	} else {
		_ = os.RemoveAll(o.Dir)
	}
	if print && len(rep.Rows) > 0 && (err == nil || c.Context().Err() == nil) {
		rep.Print(c.OutOrStdout())
	}
	if err != nil && failed {
		return rep, withHint(err, "the logs in %s say more", o.Dir)
	}
	return rep, err
}

// emptyDir makes a directory, or takes one that is empty.
func emptyDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	defer d.Close()
	if _, err := d.Readdirnames(1); !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("directory %s is not empty", dir)
	}
	return dir, nil
}
