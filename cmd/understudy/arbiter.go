package main

import (
	"crypto/tls"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"understudy/arbiter/boltstore"
	"understudy/arbiter/httparb"
	"understudy/internal/control"
)

func arbiterCommand() *cobra.Command {
	var addr, data, tlsDir string
	c := &cobra.Command{
		Use:   "arbiter",
		Short: "Run the arbiter: the test-and-set that settles who may go on",
		Long: `Runs the arbiter: one compare-and-set register per protected group, kept on disk. A replica that wants to act
without the other's acknowledgement must win the next view number here first; each number is granted once.

Prints one JSON line {"listen": ADDRESS} when it is ready.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if data == "" {
				dir, err := stateDir()
				if err != nil {
					return err
				}
				data = filepath.Join(dir, "arbiter.db")
			}
			if err := os.MkdirAll(filepath.Dir(data), 0o700); err != nil {
				return err
			}
			id, err := identity(tlsDir, arbiterName)
			if err != nil {
				return err
			}
			store, err := boltstore.Open(data, boltstore.Options{})
			if err != nil {
				return err
			}
			defer store.Close()
			ln, err := listenAs(addr, id)
			if err != nil {
				return err
			}
			if err := json.NewEncoder(c.OutOrStdout()).Encode(listening{Listen: ln.Addr().String()}); err != nil {
				return err
			}
			var options []httparb.ServerOption
			if id != nil {
				ln = tls.NewListener(ln, id.Server(""))
				options = append(options, httparb.OwnClaimsOnly(control.Name))
			}
			return httparb.NewServer(store, logger(c), options...).Serve(c.Context(), ln)
		},
	}
	f := c.Flags()
	f.StringVar(&addr, "listen", "127.0.0.1:7070", "host:port or the path of a unix socket")
	tlsFlag(f, &tlsDir)
	f.StringVar(&data, "data", "", "the store's file (default: arbiter.db in the state directory)")
	return c
}

// stateDir is where what must survive a restart is kept, by the XDG base directory specification.
func stateDir() (string, error) {
	if d := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "understudy"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "state", "understudy"), nil
}
