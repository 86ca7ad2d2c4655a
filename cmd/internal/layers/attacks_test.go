package layers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAttacksNameTestsThatExist(t *testing.T) {
	doc := requireTestsExist(t, filepath.Join("docs", "attacks.md"))
	rows := 0
	for line := range strings.Lines(doc) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		if rows++; rows == 1 {
			continue // the heads of the columns
		}
		columns := strings.Split(strings.Trim(line, "|\n"), " | ")
		require.Len(t, columns, 3, line)
		require.True(t, strings.Contains(columns[2], "`Test") || strings.Contains(columns[2], "not yet"), "no test of: %s", columns[0])
	}
	require.Greater(t, rows, 14)
}

// requireTestsExist wants each test that a document names to exist, and returns
// the document.
func requireTestsExist(t *testing.T, file string) string {
	t.Helper()
	root := filepath.Join("..", "..", "..")
	doc, err := os.ReadFile(filepath.Join(root, file))
	require.NoError(t, err)
	named := testName.FindAllStringSubmatch(string(doc), -1)
	require.Greater(t, len(named), 30)
	tests := testSources(t, root)
	for _, name := range named {
		require.True(t, strings.Contains(tests, "\nfunc "+name[1]+"(t *testing.T)"), "%s names %s", file, name[1])
	}
	return string(doc)
}
