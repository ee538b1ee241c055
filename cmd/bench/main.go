// Command bench measures Understudy and writes the tables of docs/benchmarks.md.
//
//	go run ./cmd/bench                              all sections
//	go run ./cmd/bench --section kernels --only crc32,fib --rounds 1
//	go run ./cmd/bench --rounds 4 --out docs/benchmarks.md --json bench.json
//
// With --out, each section's text replaces the former one between its marks in the file; the rest of the file stays.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"

	"understudy/internal/bench"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	sections := fs.String("section", "", "sections to measure, by name, with commas; all when empty")
	only := fs.String("only", "", "parts of a section to measure, such as kernels, with commas")
	rounds := fs.Int("rounds", 3, "alternating rounds; the best of each counts")
	scale := fs.Float64("scale", 1, "how much work each measurement does")
	out := fs.String("out", "", "file whose sections are rewritten; all go to standard output when empty")
	asJSON := fs.String("json", "", "file for the numbers as JSON")
	profile := fs.String("cpuprofile", "", "file for a profile of this process")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			defer f.Close()
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			return fail(stderr, err)
		}
		defer pprof.StopCPUProfile()
	}
	o := bench.Options{Rounds: *rounds, Only: list(*only), Scale: *scale, Log: stderr}
	var results []*bench.Section
	measured := fmt.Sprintf("Measured by `%s`: %s, %s/%s, %d processors, revision %s.", command(fs), runtime.Version(), runtime.GOOS,
		runtime.GOARCH, runtime.NumCPU(), revision())
	for _, d := range bench.Definitions() {
		if want := list(*sections); len(want) > 0 && !slices.Contains(want, d.Name) {
			continue
		}
		s, err := d.Run(ctx, o)
		if err != nil {
			return fail(stderr, fmt.Errorf("section %s: %w", d.Name, err))
		}
		s.Notes = append(s.Notes, measured)
		results = append(results, s)
		// At once: a section that follows may fail.
		if *out == "" {
			err = s.WriteMarkdown(stdout)
		} else {
			err = rewrite(*out, s)
		}
		if err != nil {
			return fail(stderr, err)
		}
	}
	if *asJSON != "" {
		b, err := json.MarshalIndent(results, "", "  ")
		if err == nil {
			err = os.WriteFile(*asJSON, append(b, '\n'), 0o644)
		}
		if err != nil {
			return fail(stderr, err)
		}
	}
	return 0
}

// rewrite brings a section in a file up to date.
func rewrite(path string, s *bench.Section) error {
	page, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		page = []byte("# Benchmarks\n")
	} else if err != nil {
		return err
	}
	if page, err = s.Rewrite(page); err != nil {
		return err
	}
	return os.WriteFile(path, page, 0o644)
}

// command is what repeats the measurement: the flags that were given, without those for files.
func command(fs *flag.FlagSet) string {
	words := []string{"go run ./cmd/bench"}
	fs.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "section", "only", "rounds", "scale":
			words = append(words, fmt.Sprintf("--%s %s", f.Name, f.Value))
		}
	})
	return strings.Join(words, " ")
}

func fail(w io.Writer, err error) int {
	fmt.Fprintf(w, "Error: %v\n", err)
	return 1
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// revision is the commit that this command was built from.
func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return s.Value[:12]
			}
		}
	}
	return "unknown"
}
