// Package layers holds the test of which module may import which.
package layers

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "github.com/project-iris/iris/"

// may lists, for each module, the modules that it may import. A module that is
// not listed fails the test: adding one is a decision.
var may = map[string][]string{
	"spec":            {},
	"stack/link":      {},
	"stack/discovery": {},
	"stack/overlay":   {"stack/link"},
	"stack/patterns":  {"stack/overlay", "stack/link"},
	"relay":           {"spec"},
	"sdk":             {"spec"},
	"conformance":     {"spec"},
	"cmd": {"spec", "stack/link", "stack/discovery", "stack/overlay", "stack/patterns",
		"relay", "sdk", "conformance"},
}

// A listed package as `go list -json` prints it.
type listed struct {
	ImportPath                               string
	Imports, TestImports, XTestImports, Deps []string
}

func TestModulesImportOnlyTheLayersBelow(t *testing.T) {
	for _, p := range list(t, "work") {
		from := moduleOf(p.ImportPath)
		allowed, known := may[from]
		require.True(t, known, "%s: module %q is not in the table", p.ImportPath, from)
		for _, imp := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			to := moduleOf(imp)
			if strings.HasPrefix(imp, root) && to != from && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s: %s may import only %v", p.ImportPath, imp, from, allowed)
			}
		}
	}
}

func TestSDKPullsNoQUIC(t *testing.T) {
	for _, p := range list(t, root+"sdk/...") {
		for _, dep := range p.Deps {
			require.NotContains(t, dep, "quic", "%s depends on %s", p.ImportPath, dep)
		}
	}
}

// list asks the go command for the packages that match pattern.
func list(t *testing.T, pattern string) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", pattern).Output()
	require.NoError(t, err, "go list %s", pattern)
	var packages []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			require.NotEmpty(t, packages)
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
}

// moduleOf names the module that an import path of this repository belongs to.
func moduleOf(path string) string {
	parts := strings.SplitN(strings.TrimPrefix(path, root), "/", 3)
	if parts[0] == "stack" && len(parts) > 1 {
		return "stack/" + parts[1]
	}
	return parts[0]
}
