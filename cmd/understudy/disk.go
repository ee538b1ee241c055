package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"understudy/internal/disk"
	"understudy/internal/shareddisk"
)

func diskCommand() *cobra.Command {
	var (
		addr, file, create, tlsDir, status string
		free                               bool
	)
	c := &cobra.Command{
		Use:   "disk --file FILE [flags]",
		Short: "Serve a disk that all hosts of a machine share",
		Long: `Serves a raw file as the disk of a protected machine: the replicas' --shared-disk leads here. Only the primary may
use it. One that was deposed, and wakes up, is refused before it writes one block: the highest view is kept durably in
FILE.fence, which must not be removed while a replica of the group lives.

A disk belongs to the group that used it first. --free gives it to the next one.

Prints one JSON line {"listen": ADDRESS, "status": ADDRESS} when it is ready.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return withHint(errors.New("no --file"), "understudy disk --file data.raw --create 1G")
			}
			id, err := identity(tlsDir, shareddisk.CertificateName)
			if err != nil {
				return err
			}
			if create != "" {
				if err := createDisk(file, create); err != nil {
					return err
				}
			}
			s, err := shareddisk.Open(file, shareddisk.ServerOptions{Identity: id, Log: logger(c)})
			if err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					return withHint(fmt.Errorf("open disk %s: there is none", file), "--create SIZE, as 1G, to make it")
				}
				return err
			}
			defer s.Close()
			if free {
				if err := s.Free(); err != nil {
					return err
				}
			}
			ln, err := listenAs(addr, id)
			if err != nil {
				return err
			}
			ready := listening{Listen: ln.Addr().String()}
			if status != "" {
				at, err := listen(status)
				if err != nil {
					return err
				}
				ready.Status = at.Addr().String()
				srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second}
				go srv.Serve(at)
				defer srv.Close()
			}
			if err := json.NewEncoder(c.OutOrStdout()).Encode(ready); err != nil {
				return err
			}
			return s.Serve(c.Context(), ln)
		},
	}
	f := c.Flags()
	f.StringVar(&file, "file", "", "the raw disk file")
	f.StringVar(&addr, "listen", "127.0.0.1:7080", "host:port or the path of a unix socket")
	f.StringVar(&create, "create", "", "make the file with this size, as 1G, if it is not there")
	f.BoolVar(&free, "free", false, "take the disk from the group that has it, for good: for a group that has ended")
	f.StringVar(&status, "status", "", "serve GET /status here")
	tlsFlag(f, &tlsDir)
	return c
}

// createDisk makes an empty disk where there is none.
func createDisk(path, size string) error {
	n, err := parseBytes(size)
	if err != nil {
		return err
	}
	if n%disk.SectorBytes != 0 {
		return fmt.Errorf("size %q: want a multiple of %d bytes", size, disk.SectorBytes)
	}
	st, err := os.Stat(path)
	switch {
	case err == nil && uint64(st.Size()) != n:
		return withHint(fmt.Errorf("create disk %s: it is there, with %d bytes", path, st.Size()), "without --create")
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("create disk: %w", err)
	}
	d, err := disk.Create(path, n/disk.SectorBytes)
	if err != nil {
		return err
	}
	d.Close()
	return nil
}
