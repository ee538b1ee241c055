# The commands that people type; .ci/run is what a change must pass.
.PHONY: demo test check bench

demo:
	go run ./cmd/understudy demo

test:
	go test ./...

check:
	.ci/run

bench:
	go run ./cmd/bench --rounds 3 --out docs/benchmarks.md
