package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"understudy/arbiter"
	"understudy/arbiter/boltstore"
	"understudy/arbiter/dirstore"
	"understudy/arbiter/httparb"
	"understudy/arbiter/memstore"
)

func init() {
	Register(Definition{Name: "arbiter", Run: claims})
	Register(Definition{Name: "sim", Run: seeds})
}

// ClaimResult is what a claim costs at one kind of store.
type ClaimResult struct {
	Store    string  `json:"store"`
	Claims   int     `json:"claims"`
	MedianUs float64 `json:"median_us"`
	WorstUs  float64 `json:"worst_us"`
}

// claimsEach is how many claims are made of each store.
const claimsEach = 300

// claims measures claims that win, one after the other: what a failover pays at the arbiter.
func claims(ctx context.Context, o Options) (*Section, error) {
	dir, err := os.MkdirTemp("", "understudy-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var all []ClaimResult
	n := max(10, int(claimsEach*o.Scale))
	measure := func(name string, r arbiter.Register, err error) error {
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		var took []float64
		for i := range n {
			start := time.Now()
			_, won, err := r.CompareAndSet(ctx, "bench", arbiter.Record{Number: uint64(i + 1), Primary: "a", Backup: "b", Claimant: "bench"})
			if err != nil || !won {
				return fmt.Errorf("%s: claim %d: won %v, %w", name, i+1, won, err)
			}
			took = append(took, float64(time.Since(start))/float64(time.Microsecond))
		}
		all = append(all, ClaimResult{name, n, median(took), slices.Max(took)})
		return nil
	}
	if err := measure("memory", memstore.New(), nil); err != nil {
		return nil, err
	}
	bolt, err := boltstore.Open(filepath.Join(dir, "arbiter.db"), boltstore.Options{})
	if err == nil {
		defer bolt.Close()
	}
	if err := measure("bbolt", bolt, err); err != nil {
		return nil, err
	}
	if err := overHTTP(ctx, dir, measure); err != nil {
		return nil, err
	}
	shared := filepath.Join(dir, "shared")
	if err := os.Mkdir(shared, 0o700); err != nil {
		return nil, err
	}
	files, err := dirstore.Open(shared, dirstore.Options{Create: true})
	if err == nil {
		defer files.Close()
	}
	if err := measure("directory", files, err); err != nil {
		return nil, err
	}
	s := &Section{Name: "arbiter", Title: "A claim at the arbiter, by kind of store"}
	s.Table.Header = []string{"store", "median, µs", "worst, µs"}
	for _, r := range all {
		s.Table.Add(r.Store, fmt.Sprintf("%.0f", r.MedianUs), fmt.Sprintf("%.0f", r.WorstUs))
	}
	if us, err := etcdClaim(ctx, n); err != nil {
		fmt.Fprintf(o.Log, "no figure for etcd: %v\n", err)
	} else {
		all = append(all, ClaimResult{Store: "etcd", Claims: n, MedianUs: us})
		s.Table.Add("etcd, one member (mean)", fmt.Sprintf("%.0f", us), "")
	}
	s.Data = all
	s.Notes = []string{fmt.Sprintf("%d claims that win, one after the other, on one host. bbolt, the directory and etcd answer when the record is on disk.", n)}
	return s, nil
}

func overHTTP(ctx context.Context, dir string, measure func(string, arbiter.Register, error) error) error {
	store, err := boltstore.Open(filepath.Join(dir, "served.db"), boltstore.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- httparb.NewServer(store, nil).Serve(ctx, ln) }()
	defer func() {
		stop()
		<-served
	}()
	client, err := httparb.NewClient("http://"+ln.Addr().String(), httparb.ClientOptions{})
	if err != nil {
		return err
	}
	defer client.Close()
	return measure("bbolt over HTTP (understudy control)", client, nil)
}

var benchmarkLine = regexp.MustCompile(`(?m)^BenchmarkClaim\S*\s+\d+\s+(\d+(?:\.\d+)?) ns/op`)

// etcdClaim has etcd's tests, which are a module of their own, measure a claim; it gives the mean in microseconds.
func etcdClaim(ctx context.Context, n int) (float64, error) {
	where, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "understudy/arbiter").Output()
	if err != nil {
		return 0, fmt.Errorf("find the arbiter's folder: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkClaim$", "-benchtime", fmt.Sprintf("%dx", n), ".")
	cmd.Dir = filepath.Join(string(where[:len(where)-1]), "etcdstore", "etcdtest")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	m := benchmarkLine.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("no figure in: %s", out)
	}
	ns, err := strconv.ParseFloat(string(m[1]), 64)
	return ns / 1000, err
}

// seedsEach is how many seeds the simulator runs for the section.
const seedsEach = 2000

var (
	seedsRate      = regexp.MustCompile(`(\d+) seeds, no rule broken: (\d+) seeds a second`)
	operationsRate = regexp.MustCompile(`histories of (\d+) operations checked: ([0-9.]+) million a minute`)
)

// seeds measures the simulator of the replication core.
func seeds(ctx context.Context, o Options) (*Section, error) {
	exe, remove, err := understudy(ctx)
	if err != nil {
		return nil, err
	}
	defer remove()
	n := max(100, int(seedsEach*o.Scale))
	run := func(args ...string) ([]byte, float64, error) {
		out, err := exec.CommandContext(ctx, exe, append([]string{"sim", "--seeds", strconv.Itoa(n)}, args...)...).Output()
		if err != nil {
			return nil, 0, fmt.Errorf("run the simulator: %w: %s", err, out)
		}
		m := seedsRate.FindSubmatch(out)
		if m == nil {
			return nil, 0, fmt.Errorf("no rate in: %s", out)
		}
		rate, _ := strconv.ParseFloat(string(m[2]), 64)
		return out, rate, nil
	}
	var d struct {
		Seeds      []float64 `json:"seedsPerSecond"`   // pairs and groups
		Service    []float64 `json:"kvSeedsPerSecond"` // groups of the key-value service
		Operations []float64 `json:"kvMillionOperationsPerMinute"`
		checked    string
	}
	for range max(1, o.Rounds) {
		_, rate, err := run()
		if err != nil {
			return nil, err
		}
		d.Seeds = append(d.Seeds, rate)
		out, rate, err := run("--world", "kv")
		if err != nil {
			return nil, err
		}
		d.Service = append(d.Service, rate)
		m := operationsRate.FindSubmatch(out)
		if m == nil {
			return nil, fmt.Errorf("no rate of operations in: %s", out)
		}
		rate, _ = strconv.ParseFloat(string(m[2]), 64)
		d.Operations, d.checked = append(d.Operations, rate), string(m[1])
	}
	s := &Section{Name: "sim", Title: "Simulated worlds", Data: d}
	s.Table.Header = []string{"what", "rate"}
	s.Table.Add("seeds of pairs and groups", fmt.Sprintf("%.0f a second", slices.Max(d.Seeds)))
	s.Table.Add("seeds of the key-value service", fmt.Sprintf("%.0f a second", slices.Max(d.Service)))
	s.Table.Add("its clients' operations, histories checked", fmt.Sprintf("%.1f million a minute", slices.Max(d.Operations)))
	s.Notes = []string{fmt.Sprintf("`understudy sim --seeds %d` and the same with `--world kv`, which checks %s operations; on all processors, the best of %d.", n, d.checked, len(d.Seeds))}
	return s, nil
}
