package rsm_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"understudy/arbiter/memstore"
	"understudy/rsm"
	"understudy/view/httpview"
)

// counter adds one for every command.
type counter struct{ n uint64 }

func (c *counter) Apply(dst []byte, e rsm.Entry) []byte {
	if e.Command == nil {
		return dst // only time has passed
	}
	c.n++
	return fmt.Append(dst, c.n)
}

func (c *counter) Snapshot() rsm.Snapshot {
	return rsm.Bytes(binary.BigEndian.AppendUint64(nil, c.n))
}

func (c *counter) Restore(from io.Reader) error {
	return binary.Read(from, binary.BigEndian, &c.n)
}

// Two servers of a group in one process. The first counts to three and is killed; the second goes on.
func Example() {
	arbiter := memstore.New()
	views, _ := httpview.NewService(arbiter, httpview.Options{})
	start := func(name string) (*rsm.Node, func()) {
		node, _ := rsm.New(rsm.Options{
			Name: name, Group: "counters", Machine: &counter{}, Arbiter: arbiter, Views: []httpview.Copy{views}, SuspectAfter: time.Second,
		})
		ctx, kill := context.WithCancel(context.Background())
		go node.Run(ctx)
		return node, kill
	}
	count := func(node *rsm.Node) string {
		for {
			if reply, err := node.Propose(context.Background(), []byte("count")); err == nil {
				return string(reply)
			}
			time.Sleep(10 * time.Millisecond) // not primary yet
		}
	}
	a, killA := start("a")
	fmt.Println("a:", count(a))
	b, killB := start("b")
	defer killB()
	for !a.Status().InSync {
		time.Sleep(10 * time.Millisecond) // b receives the state
	}
	fmt.Println("a:", count(a))
	fmt.Println("a:", count(a))
	killA()
	fmt.Println("b:", count(b))
	// Output:
	// a: 1
	// a: 2
	// a: 3
	// b: 4
}
