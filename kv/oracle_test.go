package kv

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/kv/resp"
)

// oracle is a real redis-server.
type oracle struct {
	t    *testing.T
	conn net.Conn
	r    *resp.ReplyReader
}

// startOracle starts a redis-server on a socket of its own, without persistence and without a periodic task that
// could remove keys in between.
func startOracle(t *testing.T) *oracle {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("UNDERSTUDY_REQUIRE") != "" {
			t.Fatal("redis-server is not installed")
		}
		t.Skip("redis-server is not installed: nothing to compare with")
	}
	dir, err := os.MkdirTemp("", "kv")
	if err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(dir, "s")
	cmd := exec.Command(bin, "--port", "0", "--unixsocket", sock, "--save", "", "--appendonly", "no", "--dir", dir, "--logfile", filepath.Join(dir, "log"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
	})
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := net.Dial("unix", sock)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			return &oracle{t: t, conn: conn, r: resp.NewReplyReader(conn)}
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("%v\n%s", err, log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (o *oracle) do(cmds ...[][]byte) []resp.Value {
	o.t.Helper()
	var out []byte
	for _, c := range cmds {
		out = resp.AppendCommand(out, c...)
	}
	if _, err := o.conn.Write(out); err != nil {
		o.t.Fatal(err)
	}
	var values []resp.Value
	for range cmds {
		v, err := o.r.Read()
		if err != nil {
			o.t.Fatal(err)
		}
		values = append(values, v)
	}
	return values
}

func args(words ...string) [][]byte {
	var a [][]byte
	for _, w := range words {
		a = append(a, []byte(w))
	}
	return a
}

func split(line string) [][]byte {
	words, ok := resp.SplitWords([]byte(line))
	if !ok {
		panic("unbalanced: " + line)
	}
	return words
}

func parseReply(t testing.TB, b []byte) resp.Value {
	t.Helper()
	r := resp.NewReplyReader(bytes.NewReader(b))
	v, err := r.Read()
	if err != nil || r.Buffered() > 0 {
		t.Fatalf("reply %q: %v, %d bytes too many", b, err, r.Buffered())
	}
	return v
}

// unordered sorts what Redis gives in no order.
func unordered(cmd string, v resp.Value) resp.Value {
	byText := func(a, b resp.Value) int { return strings.Compare(a.String(), b.String()) }
	sortPairs := func(e []resp.Value) []resp.Value {
		var pairs []resp.Value
		for i := 0; i+1 < len(e); i += 2 {
			pairs = append(pairs, resp.Value{Kind: resp.Array, Elems: e[i : i+2]})
		}
		slices.SortFunc(pairs, byText)
		return pairs
	}
	switch cmd {
	case "spop":
		if v.Kind == resp.Bulk {
			return v
		}
		fallthrough
	case "smembers", "keys", "hkeys", "hvals", "sinter", "sunion", "sdiff":
		v.Elems = slices.Clone(v.Elems)
		slices.SortFunc(v.Elems, byText)
	case "hgetall":
		v.Elems = sortPairs(v.Elems)
	case "hscan", "zscan", "sscan", "scan":
		if len(v.Elems) == 2 {
			e := v.Elems[1].Elems
			if cmd[0] == 'h' || cmd[0] == 'z' {
				e = sortPairs(e)
			} else {
				e = slices.Clone(e)
				slices.SortFunc(e, byText)
			}
			v.Elems = []resp.Value{v.Elems[0], {Kind: resp.Array, Elems: e}}
		}
	case "command":
		if len(v.Elems) > 0 {
			return resp.Value{}
		}
	}
	return v
}

func text(args [][]byte) string {
	var s []string
	for _, a := range args {
		s = append(s, fmt.Sprintf("%q", a))
	}
	return strings.Join(s, " ")
}

func TestRandomCommandsAsRedis(t *testing.T) {
	o := startOracle(t)
	count := 40000
	if testing.Short() {
		count = 8000
	}
	if n, err := strconv.Atoi(os.Getenv("KV_COMMANDS")); err == nil {
		count = n // 400000 take half a minute
	}
	for _, proto := range []int{2, 3} {
		for seed := range uint64(3) {
			o.do(args("hello", fmt.Sprint(proto)), args("flushall"), args("select", "0"))
			s := New(Limits{})
			g := generator{rand.New(rand.NewPCG(seed, uint64(proto)))}
			call := Call{Proto: proto, Now: time.Now().UnixMilli()}
			var history []string
			for i := range count / 6 {
				cmd := g.command()
				history = append(history, text(cmd))
				name := strings.ToLower(string(cmd[0]))
				if name == "dbsize" {
					o.do(args("scan", "0", "count", "1000")) // removes what is dead
				}
				want := unordered(name, o.do(cmd)[0])
				raw := s.Apply(nil, &call, cmd)
				got := unordered(name, parseReply(t, raw))
				if d := want.Int - got.Int; (strings.HasSuffix(name, "ttl") || strings.HasSuffix(name, "expiretime")) && want.Int > 0 && d < 60000 && d > -60000 {
					continue // relative to another now
				}
				if w, g := want.String(), got.String(); w != g {
					t.Errorf("RESP%d, seed %d, command %d: %s\nredis %s\nours  %s\nbefore: %s", proto, seed, i, text(cmd), w, g, strings.Join(history[max(0, len(history)-6):len(history)-1], "\n        "))
					if len(history) > 0 && t.Failed() {
						break
					}
				}
			}
		}
	}
}
