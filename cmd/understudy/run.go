package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/protobuf/types/known/durationpb"

	api "understudy/api/understudy/v1"
	"understudy/internal/host"
)

// runFlags describe a machine.
type runFlags struct {
	name, memory, mode, wait, cmdline, bandwidth string
	sharedReads                                  string
	forwards, volumes, sharedDisks               []string
	epoch, suspectAfter, lagMax                  time.Duration
	spares                                       int32
	noBackup, detach, outbound                   bool
}

func runCommand() *cobra.Command {
	var (
		o clientFlags
		r runFlags
	)
	c := &cobra.Command{
		Use:   "run [flags] IMAGE",
		Short: "Run an image as a protected machine",
		Long: `Creates a machine: control chooses a host to boot it, and another to be its understudy. Returns when the guest is up, and
prints the machine's name. Ctrl-C while it waits leaves the machine to itself: see understudy ps.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			spec, err := r.spec(args[0])
			if err != nil {
				return err
			}
			if r.wait != "up" && r.wait != "protected" {
				return fmt.Errorf("--wait %q: want up or protected", r.wait)
			}
			f, err := o.dial()
			if err != nil {
				return err
			}
			return f.explain(runMachine(c, f, spec, r.wait == "protected", r.detach))
		},
	}
	fl := c.Flags()
	fl.SetInterspersed(false)
	o.add(fl)
	fl.StringVar(&r.name, "name", "", "the machine's name (default: one is made up)")
	fl.StringArrayVarP(&r.forwards, "publish", "p", nil, "forward a port: [HOST:]PORT:GUESTPORT[/udp], port 0 for any free one (repeatable)")
	fl.StringVarP(&r.memory, "memory", "m", "", "guest memory, as 512M (default: the image's)")
	fl.StringArrayVarP(&r.volumes, "volume", "v", nil, "a disk beside those of the image: NAME:SIZE, as data:2G (repeatable)")
	fl.StringArrayVar(&r.sharedDisks, "shared-disk", nil, "a disk that all hosts share, where understudy disk serves it: HOST:PORT (repeatable)")
	fl.StringVar(&r.sharedReads, "shared-disk-reads", "log", "how the backup has what was read from shared disks: log (it travels in the log) or disk (the backup reads it too; writes wait for that)")
	fl.StringVar(&r.mode, "mode", "lockstep", "how it is protected: lockstep or checkpoint")
	fl.DurationVar(&r.epoch, "epoch", 0, "checkpoint mode: time between two checkpoints, as 25ms (default: it adapts)")
	fl.Int32Var(&r.spares, "spares", 1, "hosts that stand ready beside primary and backup; -1: all")
	fl.BoolVar(&r.noBackup, "no-backup", false, "run it unprotected")
	fl.BoolVarP(&r.detach, "detach", "d", false, "print the name and return at once")
	fl.StringVar(&r.wait, "wait", "up", "return when the guest is up, or when it is protected")
	fl.StringVar(&r.cmdline, "append", "", "words to add to the kernel's command line")
	fl.BoolVar(&r.outbound, "allow-outbound", false, "let the guest open connections to the outside")
	fl.DurationVar(&r.suspectAfter, "suspect-after", 0, "silence after which a replica suspects the other to be dead (default: the hosts')")
	fl.DurationVar(&r.lagMax, "lag-max", 0, "how far the backup may be behind before the machine is slowed (default: the hosts')")
	fl.StringVar(&r.bandwidth, "bandwidth", "", "limit for state transfer per second, as 50M (default: none)")
	_ = c.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]cobra.Completion{"lockstep", "checkpoint"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("shared-disk-reads", cobra.FixedCompletions([]cobra.Completion{"log", "disk"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("wait", cobra.FixedCompletions([]cobra.Completion{"up", "protected"}, cobra.ShellCompDirectiveNoFileComp))
	c.ValidArgsFunction = cobra.NoFileCompletions
	return c
}

// spec reads the flags.
func (r *runFlags) spec(image string) (*api.MachineSpec, error) {
	mode, err := parseMode(r.mode)
	if err != nil {
		return nil, err
	}
	if r.epoch != 0 && mode != api.Mode_MODE_CHECKPOINT {
		return nil, fmt.Errorf("--epoch is for --mode checkpoint")
	}
	backupReads, err := host.ParseReads(r.sharedReads)
	switch {
	case err != nil:
		return nil, err
	case backupReads && len(r.sharedDisks) == 0:
		return nil, withHint(errors.New("--shared-disk-reads disk: there is no shared disk to read"), "--shared-disk HOST:PORT, see understudy disk --help")
	case backupReads && mode == api.Mode_MODE_CHECKPOINT:
		return nil, withHint(errors.New("--shared-disk-reads disk is for lockstep: in checkpoint mode what was read comes to the backup with the pages that changed"), "without it, or --mode lockstep")
	}
	s := &api.MachineSpec{
		Name: r.name, Image: image, Forwards: r.forwards, Cmdline: r.cmdline, Mode: mode, Outbound: r.outbound, Spares: r.spares,
		Unprotected: r.noBackup, SharedDisks: r.sharedDisks,
	}
	if backupReads {
		s.SharedDiskReads = api.SharedDiskReads_SHARED_DISK_READS_DISK
	}
	if s.Name == "" {
		s.Name = madeUpName(rand.IntN)
	}
	if r.memory != "" {
		if s.MemBytes, err = parseBytes(r.memory); err != nil {
			return nil, err
		}
	}
	if r.bandwidth != "" {
		if s.BandwidthBytes, err = parseBytes(r.bandwidth); err != nil {
			return nil, err
		}
	}
	for _, v := range r.volumes {
		name, size, ok := strings.Cut(v, ":")
		if !ok {
			return nil, fmt.Errorf("volume %q: want NAME:SIZE, as data:2G", v)
		}
		n, err := parseBytes(size)
		if err != nil {
			return nil, fmt.Errorf("volume %q: %w", v, err)
		}
		s.Volumes = append(s.Volumes, &api.Volume{Name: name, SizeBytes: n})
	}
	for d, to := range map[*time.Duration]**durationpb.Duration{&r.epoch: &s.Epoch, &r.suspectAfter: &s.SuspectAfter, &r.lagMax: &s.LagMax} {
		if *d != 0 {
			*to = durationpb.New(*d)
		}
	}
	return s, nil
}

// Words for machines without a name: players and their ways.
var (
	ways    = []string{"calm", "brave", "early", "gentle", "keen", "loyal", "merry", "quick", "ready", "steady", "swift", "wise"}
	players = []string{"callas", "duse", "garrick", "kean", "macready", "mrozek", "olivier", "quayle", "rachel", "siddons", "talma", "terry"}
)

func madeUpName(pick func(int) int) string {
	return fmt.Sprintf("%s-%s-%02d", ways[pick(len(ways))], players[pick(len(players))], pick(100))
}

// runMachine creates a machine and waits.
func runMachine(c *cobra.Command, f *fleet, spec *api.MachineSpec, protected, detach bool) error {
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	stream, err := f.Run(ctx, &api.RunRequest{Spec: spec, WaitProtected: protected})
	if err != nil {
		return err
	}
	defer stream.Close()
	show := newNarrator(c.ErrOrStderr())
	defer show.end()
	for stream.Receive() {
		p := stream.Msg()
		if detach {
			break // the machine is made: control tells of it only then
		}
		show.say(progressLine(p))
		if p.Up && (!protected || p.Protected) {
			show.end()
			for _, f := range p.GetMachine().GetForwards() {
				fmt.Fprintf(c.ErrOrStderr(), "forwards %s\n", portsText([]string{f}))
			}
		}
	}
	if err := stream.Err(); err != nil && !detach {
		if c.Context().Err() != nil {
			show.end()
			fmt.Fprintf(c.ErrOrStderr(), "%s goes on by itself: understudy ps\n", spec.Name)
			return c.Context().Err()
		}
		return err
	} else if err != nil && ctx.Err() == nil {
		return err
	}
	fmt.Fprintln(c.OutOrStdout(), spec.Name)
	return nil
}

func progressLine(p *api.RunProgress) string {
	text := p.Text
	if text == "" {
		text = map[string]string{
			"place": "looks for a host", "boot": "boots", "up": "the guest is up", "protect": "the guest is up",
			"protected": "the guest is up and protected",
		}[p.Step]
	}
	if p.Up && p.Step == "protect" && p.Text != "" {
		text = "the guest is up; " + p.Text
	}
	if p.Done > 0 && p.Done < 1 && !strings.Contains(text, "%") {
		text += fmt.Sprintf(" (%.0f%%)", 100*p.Done)
	}
	return text
}

// narrator tells of progress: on a terminal on one line that changes, else on a line for each change.
type narrator struct {
	w        io.Writer
	terminal bool
	last     string
}

func newNarrator(w io.Writer) *narrator {
	f, ok := w.(*os.File)
	return &narrator{w: w, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

func (n *narrator) say(text string) {
	if text == "" || text == n.last {
		return
	}
	n.last = text
	if n.terminal {
		fmt.Fprintf(n.w, "\r\x1b[K%s", text)
		return
	}
	fmt.Fprintln(n.w, text)
}

func (n *narrator) end() {
	if n.terminal && n.last != "" {
		fmt.Fprintln(n.w)
	}
	n.last = ""
}
