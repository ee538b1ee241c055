package torture

import "testing"

func TestConsole(t *testing.T) {
	type said struct {
		from  int64
		text  string
		short bool
		kind  string
	}
	for name, all := range map[string][]said{
		"grows":           {{0, "one\n", false, ""}, {0, "one\ntwo\n", false, ""}, {0, "one\ntwo\n", false, ""}},
		"the end is lost": {{0, "one\ntwo\n", false, ""}, {0, "one\n", true, ""}},
		"doubled":         {{0, "one\ntwo\n", false, ""}, {0, "one\none\ntwo\n", false, Wrong}},
		"another":         {{0, "one\n", false, ""}, {0, "two\n", false, Wrong}},
		"the begin is no longer kept": {
			{0, "0123456789", false, ""}, {4, "456789ab", false, ""}, {4, "456x89ab", false, Wrong},
		},
		"less is kept on another host": {{4, "456789", false, ""}, {0, "0123456789ab", false, ""}, {20, "xyz", false, ""}, {20, "xy", true, ""}},
		"panics":                       {{0, "Kernel panic - not syncing", false, Wrong}},
	} {
		t.Run(name, func(t *testing.T) {
			var c console
			for i, s := range all {
				short, v := c.hear(s.from, []byte(s.text))
				kind := ""
				if v != nil {
					kind = v.Kind
				}
				if short != s.short || kind != s.kind {
					t.Fatalf("%d: short %v, %v; want %v, %q", i, short, v, s.short, s.kind)
				}
			}
		})
	}
}
