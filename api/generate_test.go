package api

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestGeneratedCodeIsCurrent compares the code with what the definition gives now. It needs the generators of the tools
// module, which it downloads only if UNDERSTUDY_REQUIRE is set.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the generators")
	}
	cmd := exec.Command("go", "-C", "../tools", "build", "./protogen",
		"google.golang.org/protobuf/cmd/protoc-gen-go", "connectrpc.com/connect/cmd/protoc-gen-connect-go")
	cmd.Env = os.Environ()
	if os.Getenv("UNDERSTUDY_REQUIRE") == "" {
		cmd.Env = append(cmd.Env, "GOPROXY=off")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		if os.Getenv("UNDERSTUDY_REQUIRE") != "" {
			t.Fatalf("build the generators: %v\n%s", err, out)
		}
		t.Skipf("the generators are not there: %s", out)
	}
	cmd = exec.Command("go", "-C", "../tools", "run", "./protogen", "--check", "../api")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Error(strings.TrimSpace(string(out)))
	}
}
