package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"understudy/arbiter/open"
	"understudy/internal/pki"
)

// arbiterName is the name in the arbiter's certificate.
const arbiterName = "arbiter"

func tlsFlag(f *pflag.FlagSet, dir *string) {
	f.StringVar(dir, "tls-dir", "", "directory with ca.pem and this side's certificate and key (see understudy cert); needed beyond loopback")
}

// identity loads a side's certificate; without a directory there is none.
func identity(dir, name string) (*pki.Identity, error) {
	if dir == "" {
		return nil, nil
	}
	id, err := pki.Load(dir, name)
	return id, withHint(err, "understudy cert host %s --dir %s", name, dir)
}

// arbiterOptions gives the certificate to an arbiter of ours, which has its name, or to an etcd, whose
// certificate has the name or address that it is dialled at.
func arbiterOptions(address string, id *pki.Identity, create bool) open.Options {
	o := open.Options{CreateDir: create}
	switch {
	case id == nil:
	case strings.HasPrefix(address, "https:"):
		o.TLS = id.Client(arbiterName)
	case strings.HasPrefix(address, "etcd:"):
		o.TLS = id.Client("")
	}
	return o
}

func certCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "cert",
		Short: "Make the certificates by which hosts know each other",
		Long: `Makes an authority for a fleet and a certificate for each of its members. The arbiter's is called "arbiter", the virtual LAN's "lan", a replica's
has the replica's name. In a fleet: "control" and "lan" where control runs, a host's by its name, and "cli" (or "cli-SOMETHING")
for who gives orders. A host needs ca.pem, NAME.pem and NAME-key.pem; ca-key.pem stays where certificates are made.`,
	}
	var dir string
	c.PersistentFlags().StringVar(&dir, "dir", "", "where the files are (default: certs in the state directory)")
	where := func() (string, error) {
		if dir == "" {
			state, err := stateDir()
			if err != nil {
				return "", err
			}
			dir = filepath.Join(state, "certs")
		}
		return dir, os.MkdirAll(dir, 0o700)
	}
	c.AddCommand(&cobra.Command{
		Use: "ca", Short: "Make the authority", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := where()
			if err != nil {
				return err
			}
			if err := pki.NewCA(d, time.Now()); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), filepath.Join(d, "ca.pem"))
			return nil
		},
	})
	var addresses []string
	host := &cobra.Command{
		Use: "host NAME", Short: "Make the certificate of a replica's host or of the arbiter", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			d, err := where()
			if err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(d, "ca-key.pem")); err != nil {
				return withHint(fmt.Errorf("there is no authority in %s", d), "understudy cert ca --dir %s", d)
			}
			if err := pki.NewHost(d, args[0], addresses, time.Now()); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), filepath.Join(d, args[0]+".pem"))
			return nil
		},
	}
	host.Flags().StringArrayVar(&addresses, "address", nil, "a DNS name or IP address that it is reached under (repeatable)")
	c.AddCommand(host)
	return c
}
