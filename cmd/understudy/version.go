package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"understudy/internal/host"
)

type versionInfo struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Protocol int    `json:"protocol"` // of the log channel; two sides must have the same
}

func versionCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "version", Short: "Show the version", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := versionInfo{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Protocol: host.ProtocolVersion}
			if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
				v.Version = b.Main.Version
			}
			switch output {
			case "json":
				return json.NewEncoder(c.OutOrStdout()).Encode(v)
			case "text":
				fmt.Fprintf(c.OutOrStdout(), "understudy %s (%s, %s, log protocol %d)\n", v.Version, v.Go, v.Platform, v.Protocol)
				return nil
			}
			return fmt.Errorf("output format %q: want text or json", output)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return c
}
