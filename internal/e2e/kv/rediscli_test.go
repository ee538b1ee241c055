package kv

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"understudy/kv/resp"
)

// cli runs redis-cli against an address and gives what it printed.
func cli(t *testing.T, addr, stdin string, args ...string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), tool(t, "redis-cli"), append([]string{"-h", host, "-p", port}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, _ := cmd.CombinedOutput() // the exit code says nothing that the text does not
	return strings.TrimRight(strings.ReplaceAll(string(out), "\r", ""), "\n")
}

// redis is a real redis-server without files, on a free port.
func redis(t *testing.T, args ...string) string {
	t.Helper()
	bin := tool(t, "redis-server")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	l.Close()
	cmd := exec.Command(bin, append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir()}, args...)...)
	if args != nil && !strings.HasPrefix(args[0], "--") {
		cmd = exec.Command(bin, append(args, "--port", port, "--bind", "127.0.0.1")...)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	wait(t, "redis-server", func() (bool, string) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return false, err.Error()
		}
		c.Close()
		return true, ""
	})
	return addr
}

// without takes the client's number out of HELLO.
var without = regexp.MustCompile(`(?m)^id\s\d+\n`)

// TestRedisCLI: redis-cli and redis-benchmark as they are.
func TestRedisCLI(t *testing.T) {
	long(t)
	tool(t, "redis-cli")
	g := startGroup(t, options{servers: 3, suspect: calm})
	a := g.protected()
	at, backup, spare := g.addr(a.View.Primary), g.addr(a.View.Backup), g.addr(g.spare(a))
	check := func(t *testing.T, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("printed %q, want %q", got, want)
		}
	}
	t.Run("one command", func(t *testing.T) {
		check(t, cli(t, at, "", "ping"), "PONG")
		check(t, cli(t, at, "", "set", "k", "v"), "OK")
		check(t, cli(t, at, "", "get", "k"), "v")
		check(t, cli(t, at, "", "-n", "3", "get", "k"), "")
		check(t, cli(t, at, "", "wait", "1", "100"), "1")
		if got := cli(t, at, "", "info"); !strings.Contains(got, "role:master\n") || !strings.Contains(got, "connected_slaves:1\n") {
			t.Error(got)
		}
	})
	t.Run("RESP3", func(t *testing.T) {
		check(t, cli(t, at, "", "hset", "h", "f", "1"), "1")
		check(t, cli(t, at, "", "-3", "--no-raw", "hgetall", "h"), `1# "f" => "1"`)
		check(t, cli(t, at, "", "-3", "--no-raw", "get", "none"), "(nil)")
		check(t, cli(t, at, "", "zadd", "z", "1.5", "m"), "1")
		check(t, cli(t, at, "", "-3", "--no-raw", "zscore", "z", "m"), "(double) 1.5")
	})
	t.Run("by hand", func(t *testing.T) {
		check(t, cli(t, at, "multi\nset n 1\nincr n\nexec\n"), "OK\nQUEUED\nQUEUED\nOK\n2")
		check(t, cli(t, at, "multi\nnosuch\nexec\n"), "OK\nERR unknown command 'nosuch', with args beginning with: \n\nEXECABORT Transaction discarded because of previous errors.")
		check(t, cli(t, at, "multi\nset n 5\ndiscard\nget n\n"), "OK\nQUEUED\nOK\n2")
		check(t, cli(t, at, "watch n\nset n 9\nmulti\nget n\nexec\nget n\n"), "OK\nOK\nOK\nQUEUED\n\n9")
	})
	t.Run("--pipe and --scan", func(t *testing.T) {
		var in []byte
		for i := range 2000 {
			in = resp.AppendCommand(in, []byte("SET"), fmt.Appendf(nil, "pipe-%d", i), []byte("x"))
		}
		if got := cli(t, at, string(in), "--pipe"); !strings.Contains(got, "errors: 0, replies: 2000") {
			t.Error(got)
		}
		keys := strings.Split(cli(t, at, "", "--scan", "--pattern", "pipe-*"), "\n")
		slices.Sort(keys)
		if n := len(slices.Compact(keys)); n != 2000 {
			t.Errorf("%d keys", n)
		}
		if got := cli(t, at, "", "--bigkeys"); !strings.Contains(got, "Biggest hash") {
			t.Error(got)
		}
	})
	t.Run("other servers", func(t *testing.T) {
		for _, addr := range []string{backup, spare} {
			check(t, cli(t, addr, "", "set", "k", "w"), "READONLY You can't write against a read only replica.")
			check(t, cli(t, addr, "", "get", "k"), "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
			check(t, cli(t, addr, "multi\nset k w\nexec\n"), "OK\nQUEUED\nREADONLY You can't write against a read only replica.")
			if got := cli(t, addr, "", "wait", "0", "0"); !strings.HasPrefix(got, "ERR WAIT cannot be used with replica instances.") {
				t.Error(got)
			}
			check(t, without.ReplaceAllString(cli(t, addr, "", "hello"), ""), strings.Replace(without.ReplaceAllString(cli(t, at, "", "hello"), ""), "master", "replica", 1))
			if got := cli(t, addr, "", "info", "replication"); !strings.Contains(got, "role:slave\n") {
				t.Error(got)
			}
			if got := cli(t, addr, "", "role"); !strings.HasPrefix(got, "slave\n") {
				t.Error(got)
			}
		}
		check(t, cli(t, at, "", "get", "k"), "v")
	})
	t.Run("Sentinel", func(t *testing.T) { sentinelByHand(t, g, at, backup) })
	t.Run("redis-benchmark", func(t *testing.T) {
		host, port, _ := net.SplitHostPort(at)
		for _, pipeline := range []string{"1", "16"} {
			out, err := exec.CommandContext(t.Context(), tool(t, "redis-benchmark"), "-h", host, "-p", port, "-n", "2000", "-q", "-P", pipeline,
				"-t", "set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange,mset").CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			text := string(out)
			if n := strings.Count(text, "requests per second, p50="); n != 18 || regexp.MustCompile(`(?i)error|warning|could not|ERR `).MatchString(text) {
				t.Errorf("%d tests\n%s", n, text)
			}
		}
	})
}

// sentinelByHand compares texts with a real Sentinel's, and looks at what ours knows.
func sentinelByHand(t *testing.T, g *group, primary, backup string) {
	pair := func(addr string) string {
		host, port, _ := net.SplitHostPort(addr)
		return host + "\n" + port
	}
	// Nobody has named the group yet: it is known all the same.
	masters := cli(t, g.sentinel, "", "sentinel", "masters")
	if !strings.HasPrefix(masters, "name\n"+groupName+"\nip\n") {
		t.Error(masters)
	}
	if got := cli(t, g.sentinel, "", "sentinel", "master", groupName); got != masters {
		t.Errorf("master: %q, masters: %q", got, masters)
	}
	if got := cli(t, g.sentinel, "", "sentinel", "get-master-addr-by-name", groupName); got != pair(primary) {
		t.Error(got)
	}
	for _, words := range []string{"replicas", "slaves"} {
		if got := cli(t, g.sentinel, "", "sentinel", words, groupName); !strings.Contains(got, "\nip\n"+strings.ReplaceAll(pair(backup), "\n", "\nport\n")+"\n") {
			t.Error(got)
		}
	}
	if got := cli(t, g.sentinel, "", "info"); !strings.Contains(got, "master0:name="+groupName+",status=ok,address="+primary+",slaves=1,sentinels=1") {
		t.Error(got)
	}
	if got := cli(t, g.sentinel, "", "role"); got != "sentinel\n"+groupName {
		t.Error(got)
	}
	conf := filepath.Join(t.TempDir(), "sentinel.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "sentinel monitor %s %s 1\n", groupName, strings.ReplaceAll(primary, ":", " ")), 0o600); err != nil {
		t.Fatal(err)
	}
	real := redis(t, conf, "--sentinel")
	for _, words := range []string{
		"ping", "sentinel get-master-addr-by-name none", "sentinel master none", "sentinel replicas none", "sentinel sentinels none", "sentinel sentinels " + groupName,
		"sentinel ckquorum none", "sentinel nosuch", "sentinel", "sentinel master", "sentinel get-master-addr-by-name", "sentinel masters x", "set k v", "hello 4",
		"sentinel get-master-addr-by-name " + groupName, "subscribe",
	} {
		want, got := cli(t, real, "", strings.Fields(words)...), cli(t, g.sentinel, "", strings.Fields(words)...)
		if got != want {
			t.Errorf("%s: %q, Redis says %q", words, got, want)
		}
	}
}

// TestTextsAsRedis: what the server itself answers, beside the data, is what Redis answers.
func TestTextsAsRedis(t *testing.T) {
	long(t)
	real := redis(t)
	g := startGroup(t, options{servers: 1, suspect: calm})
	ours := g.addr("kv1")
	for _, line := range []string{
		"config set", "config set foo", "config set foo bar", "config set maxmemory x", "config set maxmemory -5", "config set maxmemory 1gb maxmemory 2gb", "config set maxmemory 1 foo",
		"config set databases 5", "config set maxmemory 1 databases 1", "config set maxmemory 1 foo 1", "config get maxmemory", "config set maxmemory 100mb", "config get maxmemory",
		"config set maxmemory 3K", "config get MAXMEMORY", "config set maxmemory 0", "config get maxmemory", "config get save nosuch", "config get appendonly", "config", "config foo", "config get",
		"config resetstat x", "config resetstat", "config set appendonly no", "config set maxmemory-policy noeviction",
		"client", "client foo", "client kill", "client kill 1.2.3.4:5", "client kill id 99999", "client kill id x", "client kill id 0", "client kill id -1", "client kill foo bar", "client kill id",
		"client kill id 1 addr", "client kill addr 1.2.3.4:5", "client kill laddr 1.2.3.4:5", "client kill type foo", "client kill type pubsub", "client kill type normal skipme maybe",
		"client kill skipme yes id 99999", "client kill user nobody", "client kill user default skipme yes", "client kill maxage 5",
		"client list id x", "client list id 99999", "client list id", "client list type foo", "client list type replica", "client list foo",
		"client no-evict on", "client no-evict foo", "client setname", "client setname a\nb", "client id x", "client getname",
		"wait 0", "wait x 0", "wait -1 0", "wait 0 -1", "wait 0 x", "role x", "auth a b c d", "auth", "auth x", "hello x", "hello 4", "hello 3 foo", "hello 3 setname", "select 99", "select x",
		"nosuch a b", "get", "reset", "exec", "discard",
	} {
		words := strings.Split(line, " ")
		want, got := cli(t, real, "", words...), cli(t, ours, "", words...)
		if got != want {
			t.Errorf("%s: %q, Redis says %q", line, got, want)
		}
	}
	t.Run("client kill", func(t *testing.T) {
		for _, addr := range []string{real, ours} {
			killer, victims := dial(t, addr), []*raw{}
			for i := range 4 {
				v := dial(t, addr)
				v.do(t, "CLIENT", "SETNAME", fmt.Sprint("v", i))
				victims = append(victims, v)
			}
			list, err := killer.try("CLIENT", "LIST")
			if err != nil || bytes.Count(list.Str, []byte("\n")) != 5 || !bytes.Contains(list.Str, []byte(" name=v3 ")) {
				t.Errorf("%s: %s, %v", addr, list, err)
			}
			_, id, _ := strings.Cut(victims[1].do(t, "CLIENT", "ID"), " ")
			for i, words := range [][]string{
				{"CLIENT", "KILL", victims[0].LocalAddr().String()},
				{"CLIENT", "KILL", "ID", id},
				{"CLIENT", "KILL", "ADDR", victims[2].LocalAddr().String(), "LADDR", addr, "TYPE", "normal"},
			} {
				want := "(integer) 1"
				if i == 0 {
					want = `"OK"`
				}
				if got := killer.do(t, words...); got != want {
					t.Errorf("%s: %s: %s", addr, words, got)
				}
				if v, err := victims[i].try("PING"); err == nil {
					t.Errorf("%s: a killed client is answered %s", addr, v)
				}
			}
			if got := victims[3].do(t, "PING"); got != `"PONG"` {
				t.Error(got)
			}
			if got := killer.do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"); got != "(integer) 2" {
				t.Errorf("%s: %s", addr, got)
			}
			if v, err := killer.try("PING"); err == nil {
				t.Errorf("%s: who killed itself is answered %s", addr, v)
			}
		}
	})
	t.Run("password", func(t *testing.T) {
		pass := filepath.Join(t.TempDir(), "pass")
		if err := os.WriteFile(pass, []byte("secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		real := redis(t, "--requirepass", "secret")
		g := startGroup(t, options{servers: 1, suspect: calm, serve: []string{"--requirepass", pass}})
		for _, line := range []string{"get k", "auth wrong", "auth default wrong", "auth nobody secret", "auth secret", "hello 3", "hello 3 auth default secret setname x"} {
			words := strings.Fields(line)
			want, got := cli(t, real, "", words...), cli(t, g.addr("kv1"), "", words...)
			if want, got = without.ReplaceAllString(want, ""), without.ReplaceAllString(got, ""); got != want {
				t.Errorf("%s: %q, Redis says %q", line, got, want)
			}
		}
		if got := cli(t, g.addr("kv1"), "", "-a", "secret", "--no-auth-warning", "config", "set", "requirepass", "x"); got != "ERR CONFIG SET failed (possibly related to argument 'requirepass') - can't set immutable config" {
			t.Errorf("%q", got)
		}
	})
}
