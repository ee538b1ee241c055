package bench

import (
	"bytes"
	"context"
	"fmt"
	"syscall"
	"time"

	"understudy/event"
	"understudy/machine"
)

// Machine runs kernels in our machine, in this process, alone: nothing is logged.
func Machine() Runner {
	return Runner{
		Name:      "understudy",
		Available: func() error { return nil },
		Run: func(ctx context.Context, kernel string, reps uint64) (Result, time.Duration, error) {
			before := cpuTime()
			out, err := runMachine(ctx, kernel, reps)
			cpu := cpuTime() - before
			if err != nil {
				return Result{}, 0, err
			}
			r, err := ParseResult(out)
			return r, cpu, err
		},
	}
}

func runMachine(ctx context.Context, kernel string, reps uint64) ([]byte, error) {
	ram, err := syscall.Mmap(-1, 0, guestRAM, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("map guest memory: %w", err)
	}
	defer syscall.Munmap(ram)
	m, err := machine.New(machine.Config{MemBytes: guestRAM, Kernel: KernelsELF, Cmdline: fmt.Sprintf("%s %d", kernel, reps)}, ram)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for m.Down() == machine.Up {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m.RunSlice(m.Position() + sliceInstructions)
		if m.Idle() {
			return nil, fmt.Errorf("the guest idles")
		}
		for _, o := range m.TakeOutputs() {
			if o.Kind == event.OutConsole {
				out.Write(o.Data)
			}
		}
	}
	return out.Bytes(), nil
}
