package bench

import (
	"strings"
	"testing"
)

func TestRewriteKeepsTheRestOfThePage(t *testing.T) {
	one, two := &Section{Name: "one", Title: "One"}, &Section{Name: "two", Title: "Two"}
	page := []byte("# Page\n\nSaid by a person.\n")
	for _, s := range []*Section{one, two} {
		var err error
		if page, err = s.Rewrite(page); err != nil {
			t.Fatal(err)
		}
	}
	page = append(page, "\nSaid after it.\n"...)
	one.Table.Header = []string{"a"}
	one.Table.Add("1")
	one.Parts = []Part{{Title: "More", Notes: []string{"n"}}}
	page, err := one.Rewrite(page)
	if err != nil {
		t.Fatal(err)
	}
	want := "# Page\n\nSaid by a person.\n\n<!-- bench one -->\n\n## One\n\n| a |\n| --- |\n| 1 |\n\n### More\n\nn\n\n<!-- end of bench one -->\n\n" +
		"<!-- bench two -->\n\n## Two\n\n<!-- end of bench two -->\n\nSaid after it.\n"
	if string(page) != want {
		t.Errorf("got %s\nwant %s", page, want)
	}
	if _, err := one.Rewrite([]byte(strings.ReplaceAll(want, "end of bench one", "lost"))); err == nil {
		t.Error("a page whose mark is lost was rewritten")
	}
}
