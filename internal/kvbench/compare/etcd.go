package compare

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"understudy/internal/kvbench"
)

// BuildEtcd builds the etcd server of the module arbiter/etcdstore/etcdtest into a folder. It needs this module's source.
func BuildEtcd(ctx context.Context, dir string) (exe string, err error) {
	where, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "understudy/arbiter").Output()
	if err != nil {
		return "", fmt.Errorf("find the source of etcd's server: %w", err)
	}
	exe = filepath.Join(dir, "etcd")
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=mod", "-o", exe, "./etcd")
	cmd.Dir = filepath.Join(strings.TrimSpace(string(where)), "etcdstore", "etcdtest")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build etcd: %w: %s", err, out)
	}
	return exe, nil
}

// Etcd starts one etcd server, which syncs every put to its file before it answers. Its data is where the others have theirs.
func Etcd(ctx context.Context, name, exe string) (*Service, error) {
	s, err := newService(name, "")
	if err != nil {
		return nil, err
	}
	return s.orClosed(s.etcd(ctx, exe))
}

func (s *Service) etcd(ctx context.Context, exe string) error {
	data := filepath.Join(s.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	p, err := s.start("etcd", exe, "--dir", data)
	if err != nil {
		return err
	}
	ready, err := p.ready(ctx)
	if err != nil {
		return err
	}
	s.Addr, s.Version = ready["listen"], ready["version"]
	s.servers[s.Addr] = p
	return nil
}

// LoadEtcd has clients put, each over a connection of its own. What is a pipeline elsewhere is so many puts side by side on one
// connection here, and a round is one put.
func LoadEtcd(ctx context.Context, l kvbench.Load) (kvbench.Result, error) {
	var clients []*clientv3.Client
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	for range l.Clients {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{l.Addr}, DialTimeout: 10 * time.Second, Logger: zap.NewNop(), Context: ctx})
		if err != nil {
			return kvbench.Result{}, fmt.Errorf("load etcd: %w", err)
		}
		clients = append(clients, c)
		// The connection is made by the first request.
		if _, err := c.Get(ctx, "key"); err != nil {
			return kvbench.Result{}, fmt.Errorf("load etcd: %w", err)
		}
	}
	value := strings.Repeat("x", l.Bytes)
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	var puts sync.WaitGroup
	began := time.Now()
	end := began.Add(l.For)
	for i := range l.Clients * l.Pipeline {
		puts.Go(func() {
			rnd := uint64(i)*0x9e3779b97f4a7c15 + 1
			var took []time.Duration
			var err error
			for at := time.Now(); err == nil && at.Before(end); {
				rnd ^= rnd << 13
				rnd ^= rnd >> 7
				rnd ^= rnd << 17
				if _, err = clients[i/l.Pipeline].Put(ctx, fmt.Sprintf("key:%012d", rnd%uint64(l.Keys)), value); err == nil {
					now := time.Now()
					took = append(took, now.Sub(at))
					at = now
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			if err != nil && failed == nil {
				failed = fmt.Errorf("load etcd: %w", err)
			}
		})
	}
	puts.Wait()
	seconds := time.Since(began).Seconds()
	switch {
	case ctx.Err() != nil:
		return kvbench.Result{}, context.Cause(ctx)
	case failed != nil:
		return kvbench.Result{}, failed
	case len(all) == 0:
		return kvbench.Result{}, fmt.Errorf("load etcd: no answers")
	}
	return kvbench.Summary(all, 1, seconds), nil
}
