package bench

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Marks around what a section has written on a page. The text outside them is people's.
func beginMark(name string) string { return "<!-- bench " + name + " -->\n" }
func endMark(name string) string   { return "<!-- end of bench " + name + " -->\n" }

// Rewrite replaces what is between the section's marks on a page, or adds the section, with its marks, to the end.
func (s *Section) Rewrite(page []byte) ([]byte, error) {
	var text bytes.Buffer
	if err := s.WriteMarkdown(&text); err != nil {
		return nil, err
	}
	begin, end := []byte(beginMark(s.Name)), []byte(endMark(s.Name))
	head, rest, ok := bytes.Cut(page, begin)
	if !ok {
		head = page
		if len(head) > 0 {
			head = append(bytes.TrimRight(head, "\n"), "\n\n"...)
		}
		rest = end
	}
	_, tail, ok := bytes.Cut(rest, end)
	if !ok {
		return nil, fmt.Errorf("rewrite section %s: no line %q after its beginning", s.Name, bytes.TrimSpace(end))
	}
	return bytes.Join([][]byte{head, begin, []byte("\n"), text.Bytes(), end, tail}, nil), nil
}

// Part is a further table of a section, under a heading of its own.
type Part struct {
	Title string   `json:"title"`
	Table Table    `json:"table"`
	Notes []string `json:"notes"`
}

// WriteMarkdown writes the section: its title, table and notes, then its parts.
func (s *Section) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n", s.Title)
	writeTable(&b, s.Table, s.Notes)
	for _, p := range s.Parts {
		fmt.Fprintf(&b, "### %s\n\n", p.Title)
		writeTable(&b, p.Table, p.Notes)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeTable writes a table, unless it has no columns, and notes.
func writeTable(b *strings.Builder, t Table, notes []string) {
	line := func(cells []string) { fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | ")) }
	if len(t.Header) > 0 {
		line(t.Header)
		rule := make([]string, len(t.Header))
		for i := range rule {
			rule[i] = "---"
			if i > 0 {
				rule[i] = "---:"
			}
		}
		line(rule)
		for _, r := range t.Rows {
			line(r)
		}
		b.WriteString("\n")
	}
	for _, n := range notes {
		fmt.Fprintf(b, "%s\n\n", n)
	}
}
