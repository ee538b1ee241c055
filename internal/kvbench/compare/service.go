package compare

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"understudy/view"
	"understudy/view/httpview"
)

// Service is a group of servers that hold the same data.
type Service struct {
	Name      string   // what tables call it
	Version   string   // of the program, where it tells
	Addr      string   // host:port of the server that takes writes
	Group     string   // its name for clients of Sentinel
	Sentinels []string // host:port where these ask who takes writes
	Views     *httpview.Client

	dir     string
	servers map[string]*Process // by host:port for clients
	all     []*Process
	o       OursOptions
	redis   RedisOptions
	control string
	started int
}

// newService makes a service without processes, and its folder among the temporary ones.
func newService(name, group string) (*Service, error) {
	dir, err := os.MkdirTemp("", "understudy-kv-")
	if err != nil {
		return nil, err
	}
	return &Service{Name: name, Group: group, dir: dir, servers: map[string]*Process{}}, nil
}

// Close ends all processes and removes their files.
func (s *Service) Close() {
	for _, p := range s.all {
		_ = p.Kill()
	}
	os.RemoveAll(s.dir)
}

// CPU is the processor time that all processes of the service have used so far.
func (s *Service) CPU() (sum time.Duration) {
	for _, p := range s.all {
		sum += p.CPU()
	}
	return sum
}

// Primary is the process that takes writes.
func (s *Service) Primary() *Process { return s.servers[s.Addr] }

func (s *Service) start(name, exe string, args ...string) (*Process, error) {
	p, err := start(s.dir, name, exe, args...)
	if err == nil {
		s.all = append(s.all, p)
	}
	return p, err
}

// OursOptions describe a group of understudy kv.
type OursOptions struct {
	Exe     string // the understudy program
	Servers int
	Suspect time.Duration
	Fsync   string // how files are synced; empty: no files
}

// Ours starts control and servers of understudy kv, each with its own choice of processors, and waits until the data is protected,
// unless there is one server alone.
func Ours(ctx context.Context, name string, o OursOptions) (*Service, error) {
	s, err := newService(name, "bench")
	if err != nil {
		return nil, err
	}
	s.o = o
	return s.orClosed(s.ours(ctx))
}

// orClosed is the service, unless its start has failed.
func (s *Service) orClosed(err error) (*Service, error) {
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Service) ours(ctx context.Context) error {
	o := s.o
	p, err := s.start("control", o.Exe, "kv", "control", "--listen", "127.0.0.1:0", "--sentinel", "127.0.0.1:0", "--data", filepath.Join(s.dir, "control.db"))
	if err != nil {
		return err
	}
	ready, err := p.ready(ctx)
	if err != nil {
		return err
	}
	s.control, s.Sentinels = ready["listen"], []string{ready["sentinel"]}
	if s.Views, err = httpview.NewClient("http://"+s.control, httpview.ClientOptions{}); err != nil {
		return err
	}
	for range o.Servers {
		if _, err := s.Join(ctx); err != nil {
			return err
		}
	}
	_, err = s.Await(ctx, "a group that serves", func(a view.Answer) bool { return Alone(a) && o.Servers == 1 || Protected(a) })
	return err
}

// Join starts one more server, which is to hold what the others hold: of ours, or a replica of Redis's master.
func (s *Service) Join(ctx context.Context) (*Process, error) {
	s.started++
	if s.Views == nil {
		p, _, err := s.redisServer(ctx, fmt.Sprint("replica", s.started), s.redis, s.Addr)
		return p, err
	}
	name := fmt.Sprint("kv", s.started)
	args := []string{
		"kv", "serve", "--name", name, "--group", s.Group, "--control", s.control, "--listen", "127.0.0.1:0",
		"--suspect-after", s.o.Suspect.String(),
	}
	if s.o.Fsync != "" {
		args = append(args, "--dir", filepath.Join(s.dir, name), "--fsync", s.o.Fsync)
	}
	p, err := s.start(name, s.o.Exe, args...)
	if err != nil {
		return nil, err
	}
	ready, err := p.ready(ctx)
	if err != nil {
		return nil, err
	}
	s.servers[ready["listen"]] = p
	return p, nil
}

// AwaitCopy waits until a second server holds the data, or until the primary knows that none does.
func (s *Service) AwaitCopy(ctx context.Context, there bool) error {
	if s.Views != nil {
		if there {
			_, err := s.Await(ctx, "a backup in sync", Protected)
			return err
		}
		_, err := s.Await(ctx, "the primary alone", Alone)
		return err
	}
	n := 0
	if there {
		n = 1
	}
	return s.awaitReplicas(ctx, n)
}

// Protected tells whether a group's data is on two servers.
func Protected(a view.Answer) bool { return a.View.Backup != "" && a.Acked && a.InSync }

// Alone tells whether a group has a primary that needs no backup.
func Alone(a view.Answer) bool { return a.View.Primary != "" && a.View.Backup == "" && a.Acked }

// Await waits until the view service says of a group of ours what is wanted, and learns who takes writes.
func (s *Service) Await(ctx context.Context, what string, ok func(view.Answer) bool) (a view.Answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		if a, err = s.Views.Get(ctx, s.Group); err == nil && ok(a) && a.PrimaryClient != "" {
			s.Addr = a.PrimaryClient
			return a, nil
		}
		select {
		case <-ctx.Done():
			return a, fmt.Errorf("wait for %s: %w (view %+v)", what, context.Cause(ctx), a.View)
		case <-time.After(2 * time.Millisecond):
		}
	}
}
