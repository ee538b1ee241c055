// Command bench measures Understudy and writes the tables of docs/benchmarks.md.
//
//	go run ./cmd/bench                              all sections
//	go run ./cmd/bench --section kernels --only crc32,fib --rounds 1
//	go run ./cmd/bench --rounds 4 --out docs/benchmarks.md --json bench.json
package main

import (
	"bytes"
	"context"
	"encoding/json"
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
	out := fs.String("out", "", "file for the tables; standard output when empty")
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
	var page bytes.Buffer
	fmt.Fprintf(&page, "# Benchmarks\n\nMeasured by `go run ./cmd/bench`: %s, %s/%s, %d processors, revision %s. The machine is "+
		"shared and noisy: trust the ratios.\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), revision())
	for _, d := range bench.Definitions() {
		if want := list(*sections); len(want) > 0 && !slices.Contains(want, d.Name) {
			continue
		}
		s, err := d.Run(ctx, o)
		if err != nil {
			return fail(stderr, fmt.Errorf("section %s: %w", d.Name, err))
		}
		results = append(results, s)
		if err := s.WriteMarkdown(&page); err != nil {
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
	text := append(bytes.TrimRight(page.Bytes(), "\n"), '\n')
	if *out == "" {
		_, _ = stdout.Write(text)
	} else if err := os.WriteFile(*out, text, 0o644); err != nil {
		return fail(stderr, err)
	}
	return 0
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
