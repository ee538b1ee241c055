// Command etcd is one etcd server, all by itself, for benchmarks: etcd's own code with its own defaults, on loopback. It prints
// one JSON line {"listen": ADDRESS, "version": VERSION} when it is ready, and ends with a signal.
//
//	go -C arbiter/etcdstore/etcdtest run ./etcd --dir DIR
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/server/v3/embed"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("etcd", flag.ContinueOnError)
	fs.SetOutput(stderr)
	dir := fs.String("dir", "", "folder for the data")
	listen := fs.String("listen", "127.0.0.1:0", "host:port for clients")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	if err := serve(*dir, *listen, stdout); err != nil {
		fmt.Fprintf(stderr, "Error: %v\n", err)
		return 1
	}
	return 0
}

func serve(dir, listen string, stdout io.Writer) error {
	if dir == "" {
		return fmt.Errorf("etcd needs a folder: --dir DIR")
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	c := embed.NewConfig()
	c.Name, c.Dir = "bench", dir
	c.LogLevel, c.LogOutputs = "error", []string{"stderr"}
	client, peer := []url.URL{{Scheme: "http", Host: listen}}, []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.ListenClientUrls, c.AdvertiseClientUrls = client, client
	c.ListenPeerUrls, c.AdvertisePeerUrls = peer, peer
	c.InitialCluster = c.Name + "=" + peer[0].String()
	e, err := embed.StartEtcd(c)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return err
	case <-stop:
		return nil
	}
	if err := json.NewEncoder(stdout).Encode(map[string]string{"listen": e.Clients[0].Addr().String(), "version": version.Version}); err != nil {
		return err
	}
	select {
	case err := <-e.Err():
		return err
	case <-stop:
		return nil
	}
}
