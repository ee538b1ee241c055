package bench

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"understudy/internal/demo"
)

// console types at a guest's shell and hears what it says, with the times. It follows one member.
type console struct {
	p      *demo.Process
	lines  chan heard
	cancel context.CancelFunc
}

// heard is a line that the guest said, and when it was there to be heard.
type heard struct {
	text string
	at   time.Time
}

func openConsole(ctx context.Context, p *demo.Process) (*console, error) {
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Ready.Status+"/console?from=0&follow=1", nil)
	if err != nil {
		cancel()
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	c := &console{p: p, lines: make(chan heard, 1024), cancel: cancel}
	go func() {
		defer close(c.lines)
		defer resp.Body.Close()
		for in := bufio.NewScanner(resp.Body); in.Scan(); {
			select {
			case c.lines <- heard{in.Text(), time.Now()}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return c, nil
}

func (c *console) close() { c.cancel() }

// say types a command.
func (c *console) say(ctx context.Context, command string) error {
	return post(ctx, c.p, "/console", nil, command+"\n", nil)
}

// await gives the first line that matches, its first group as a number if it has one, and when it came.
func (c *console) await(ctx context.Context, re *regexp.Regexp) (n int, at time.Time, err error) {
	limit := time.NewTimer(groupPatience)
	defer limit.Stop()
	for {
		select {
		case l, ok := <-c.lines:
			if !ok {
				return 0, at, fmt.Errorf("the console of %s ended: %s", c.p.Name, c.p.LastWords())
			}
			if m := re.FindStringSubmatch(l.text); m != nil {
				if len(m) > 1 {
					n, err = strconv.Atoi(m[1])
				}
				return n, l.at, err
			}
		case <-limit.C:
			return 0, at, fmt.Errorf("the guest of %s did not say %q within %v", c.p.Name, re, groupPatience)
		case <-ctx.Done():
			return 0, at, context.Cause(ctx)
		}
	}
}

// The numbers in these lines are put there by the guest's shell, so that the echo of a command does not match.
var (
	saidReady = regexp.MustCompile(`bench ready 42`)
	saidWrote = regexp.MustCompile(`wrote (\d+)$`)
)

// ready waits until the guest's shell answers.
func (c *console) ready(ctx context.Context) error {
	if err := c.say(ctx, "echo bench ready $((6*7))"); err != nil {
		return err
	}
	_, _, err := c.await(ctx, saidReady)
	return err
}
