package lanapi

import (
	"encoding/json"
	"testing"
)

// Whatever is in the file, reading it neither panics nor lets through what could not have been put.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"version":1,"lans":[{"name":"a","listen":"127.0.0.1:1","outbound":true,"mac":"52:54:00:00:00:01","forwards":[{"spec":"0:80","at":"127.0.0.1:2"}],"views":[{"mac":"52:54:00:00:00:01","view":3}]}]}`))
	f.Add([]byte(`{"version":1,"lans":null}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s stored
		if decode(text, &s) != nil {
			return
		}
		for _, l := range s.LANs {
			if err := validName(l.Name); err != nil {
				t.Error(err)
			}
			if want, _, err := parse(l.spec()); err != nil || len(want) != len(l.Forwards) {
				t.Errorf("%d forwards of %d, %v", len(want), len(l.Forwards), err)
			}
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := decode(again, new(stored)); err != nil {
			t.Errorf("%s became %s: %v", text, again, err)
		}
	})
}
