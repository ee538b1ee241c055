package compare

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const redisServer = "redis-server"

// silent keeps go-redis, which narrates every failure, from the terminal.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(silent{}) }

// RedisAvailable tells why Redis cannot be started; nil when it can.
func RedisAvailable() error {
	if _, err := exec.LookPath(redisServer); err != nil {
		return fmt.Errorf("%s is not installed (Debian package redis-server)", redisServer)
	}
	return nil
}

// redisVersion is the number that the installed server says about itself.
func redisVersion() string {
	out, _ := exec.Command(redisServer, "--version").Output()
	if _, after, ok := strings.Cut(string(out), "v="); ok {
		v, _, _ := strings.Cut(after, " ")
		return v
	}
	return "unknown"
}

// RedisOptions describe a master of Redis with its replicas.
type RedisOptions struct {
	Replicas  int
	Fsync     string        // how an append-only file is synced; empty: no files
	Sentinels int           // how many watch the master; the majority of them must agree
	DownAfter time.Duration // silence after which one of these holds it for dead
}

// Redis starts a master, replicas and Sentinels, and waits until all know of each other and the replicas have what the master has.
func Redis(ctx context.Context, name string, o RedisOptions) (*Service, error) {
	if err := RedisAvailable(); err != nil {
		return nil, err
	}
	s, err := newService(name, "bench")
	if err != nil {
		return nil, err
	}
	s.Version = redisVersion()
	s.redis = o
	return s.orClosed(s.redisGroup(ctx, o))
}

func (s *Service) redisGroup(ctx context.Context, o RedisOptions) (err error) {
	if _, s.Addr, err = s.redisServer(ctx, "master", o, ""); err != nil {
		return err
	}
	for range o.Replicas {
		if _, err := s.Join(ctx); err != nil {
			return err
		}
	}
	if err := s.awaitReplicas(ctx, o.Replicas); err != nil {
		return err
	}
	return s.sentinels(ctx, o)
}

// awaitReplicas waits until so many replicas have what the master has.
func (s *Service) awaitReplicas(ctx context.Context, n int) error {
	c := redis.NewClient(&redis.Options{Addr: s.Addr, DisableIdentity: true})
	defer c.Close()
	return s.Primary().await(ctx, "its replicas", func(ctx context.Context) error {
		text, err := c.Info(ctx, "replication").Result()
		if err == nil && strings.Count(text, "state=online") != n {
			err = errNotYet
		}
		return err
	})
}

// redisServer starts one server, the replica of another unless that is empty.
func (s *Service) redisServer(ctx context.Context, name string, o RedisOptions, of string) (p *Process, addr string, err error) {
	args := []string{"--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"}
	if o.Fsync != "" {
		args[3] = "yes"
		args = append(args, "--appendfsync", o.Fsync)
	}
	if of != "" {
		host, port, _ := net.SplitHostPort(of)
		args = append(args, "--replicaof", host+" "+port)
	}
	return s.redisProcess(ctx, name, args...)
}

// redisProcess starts redis-server on a port that was free a moment ago; if somebody else was quicker, on another one.
func (s *Service) redisProcess(ctx context.Context, name string, args ...string) (p *Process, addr string, err error) {
	dir := filepath.Join(s.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	for range 3 {
		port, err := freePort()
		if err != nil {
			return nil, "", err
		}
		p, err := s.start(name, redisServer, append(args, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir)...)
		if err != nil {
			return nil, "", err
		}
		addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		c := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1})
		err = p.await(ctx, "its first answer", func(ctx context.Context) error { return c.Ping(ctx).Err() })
		c.Close()
		if err == nil {
			s.servers[addr] = p
			return p, addr, nil
		}
		if !strings.Contains(p.lastWords(), "in use") {
			return nil, "", err
		}
	}
	return nil, "", fmt.Errorf("start %s: no free port", name)
}

// sentinels starts those who watch the master.
func (s *Service) sentinels(ctx context.Context, o RedisOptions) error {
	host, port, _ := net.SplitHostPort(s.Addr)
	config := fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s %[4]d\nsentinel down-after-milliseconds %[1]s %[5]d\nsentinel failover-timeout %[1]s 10000\n",
		s.Group, host, port, o.Sentinels/2+1, o.DownAfter.Milliseconds())
	var clients []*redis.SentinelClient
	var processes []*Process
	for i := range o.Sentinels {
		name := fmt.Sprint("sentinel", i+1)
		file := filepath.Join(s.dir, name+".conf")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return err
		}
		p, addr, err := s.redisProcess(ctx, name, file, "--sentinel")
		if err != nil {
			return err
		}
		delete(s.servers, addr)
		s.Sentinels = append(s.Sentinels, addr)
		c := redis.NewSentinelClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer c.Close()
		clients, processes = append(clients, c), append(processes, p)
	}
	for i, c := range clients {
		if err := processes[i].await(ctx, "its knowledge of the others", func(ctx context.Context) error {
			m, err := c.Master(ctx, s.Group).Result()
			if err == nil && (m["num-slaves"] != strconv.Itoa(o.Replicas) || m["num-other-sentinels"] != strconv.Itoa(o.Sentinels-1)) {
				err = errNotYet
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// askSentinel learns who is master now.
func (s *Service) askSentinel(ctx context.Context) error {
	c := redis.NewSentinelClient(&redis.Options{Addr: s.Sentinels[0], DisableIdentity: true})
	defer c.Close()
	a, err := c.GetMasterAddrByName(ctx, s.Group).Result()
	if err != nil {
		return fmt.Errorf("ask Sentinel for the master: %w", err)
	}
	s.Addr = net.JoinHostPort(a[0], a[1])
	if s.Primary() == nil {
		return fmt.Errorf("ask Sentinel for the master: %s is none of its servers", s.Addr)
	}
	return nil
}
