package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	api "understudy/api/understudy/v1"
)

func psCommand() *cobra.Command {
	var (
		o          clientFlags
		all, quiet bool
		format     string
	)
	c := &cobra.Command{
		Use:   "ps",
		Short: "List machines and how they are protected",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := outputFormat(format); err != nil {
				return err
			}
			f, err := o.dial()
			if err != nil {
				return err
			}
			r, err := f.ListMachines(c.Context(), &api.ListMachinesRequest{All: all})
			if err != nil {
				return f.explain(err)
			}
			out := c.OutOrStdout()
			switch {
			case quiet:
				for _, m := range r.Machines {
					fmt.Fprintln(out, m.GetSpec().GetName())
				}
				return nil
			case format == "json":
				machines := []machineJSON{}
				for _, m := range r.Machines {
					machines = append(machines, toMachine(m))
				}
				return writeJSON(out, machines)
			}
			w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tIMAGE\tSTATE\tPROTECTION\tPRIMARY\tBACKUP\tVIEW\tPORTS\tAGE")
			for _, m := range r.Machines {
				view := "-"
				if m.View > 0 {
					view = fmt.Sprint(m.View)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.GetSpec().GetName(), m.GetSpec().GetImage(), stateText(m), dash(m.Protection),
					dash(m.Primary), dash(m.Backup), view, dash(portsText(m.Forwards)), ageText(m.Created, time.Now()))
			}
			return w.Flush()
		},
	}
	o.add(c.Flags())
	c.Flags().BoolVarP(&all, "all", "a", false, "stopped and ended machines as well")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "names only")
	outputFlag(c.Flags(), &format)
	return c
}

// stateText is a machine's state with its reason.
func stateText(m *api.Machine) string {
	switch {
	case m.State == "ended" && m.ExitCode != 0:
		return fmt.Sprintf("ended (%d)", m.ExitCode)
	case m.State == "stuck" && m.Reason != "":
		return "stuck: " + m.Reason
	case (m.State == "placing" || m.State == "starting") && m.Progress != "":
		return m.State + ": " + m.Progress
	}
	return m.State
}

// portsText shows forwards with arrows.
func portsText(forwards []string) string {
	texts := make([]string, len(forwards))
	for i, f := range forwards {
		texts[i] = f
		if at := strings.LastIndexByte(f, ':'); at > 0 {
			texts[i] = f[:at] + "->" + f[at+1:]
		}
	}
	return strings.Join(texts, ", ")
}
