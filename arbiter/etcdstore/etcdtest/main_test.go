package etcdtest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"understudy/arbiter/arbitertest"
)

// The test binary plays the etcd member that must be able to die.
func TestMain(m *testing.M) {
	arbitertest.Main(m, map[string]func([]string) error{"etcd": func(args []string) error {
		e, err := embed.StartEtcd(config(args[0], member{name: args[1], client: args[2], peer: args[3]}, args[4]))
		if err != nil {
			return err
		}
		select {
		case <-e.Server.ReadyNotify():
		case err := <-e.Err():
			return err
		}
		fmt.Println("ready")
		return <-e.Err()
	}})
}

// member is one etcd server: its name and the addresses for clients and for the other members.
type member struct{ name, client, peer string }

// newMember chooses addresses that are free now.
func newMember(t testing.TB, name string) member {
	t.Helper()
	free := func() string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		return ln.Addr().String()
	}
	return member{name, free(), free()}
}

func (m member) initial() string { return m.name + "=http://" + m.peer }

func config(dir string, m member, cluster string) *embed.Config {
	c := embed.NewConfig()
	c.Name, c.Dir = m.name, dir
	c.LogLevel, c.LogOutputs = "fatal", []string{"stderr"}
	c.TickMs, c.ElectionMs = 50, 500
	client, peer := []url.URL{{Scheme: "http", Host: m.client}}, []url.URL{{Scheme: "http", Host: m.peer}}
	c.ListenClientUrls, c.AdvertiseClientUrls = client, client
	c.ListenPeerUrls, c.AdvertisePeerUrls = peer, peer
	c.InitialCluster = cluster
	return c
}

// start runs a member in this process; change may change its configuration.
func start(t testing.TB, change func(*embed.Config)) (m member, e *embed.Etcd) {
	t.Helper()
	m = newMember(t, "m1")
	dir, err := os.MkdirTemp(t.TempDir(), "etcd")
	if err != nil {
		t.Fatal(err)
	}
	c := config(dir, m, m.initial())
	if change != nil {
		change(c)
	}
	e, err = embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(30 * time.Second):
		t.Fatal("etcd does not start")
	}
	return m, e
}

// cluster runs members in processes of their own and returns them with what kills and restarts one.
func cluster(t testing.TB, n int) (members []member, kill, restart func(i int)) {
	t.Helper()
	var initial []string
	for i := range n {
		members = append(members, newMember(t, fmt.Sprintf("m%d", i+1)))
		initial = append(initial, members[i].initial())
	}
	dir := t.TempDir()
	run := func(i int) (stop func()) {
		m := members[i]
		cmd := arbitertest.Part("etcd", dir+"/"+m.name, m.name, m.client, m.peer, strings.Join(initial, ","))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { arbitertest.Kill(cmd) })
		return func() { arbitertest.Kill(cmd) }
	}
	stops := make([]func(), n)
	for i := range members {
		stops[i] = run(i)
	}
	return members, func(i int) { stops[i]() }, func(i int) { stops[i](); stops[i] = run(i) }
}
