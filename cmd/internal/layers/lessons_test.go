package layers

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// testName is how documents name tests.
var testName = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")

func TestLessonsNameTestsThatExist(t *testing.T) {
	requireTestsExist(t, filepath.Join("docs", "lessons.md"))
}

// testSources is the text of all tests under root.
func testSources(t *testing.T, root string) string {
	t.Helper()
	var tests strings.Builder
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		tests.Write(source)
		return err
	}))
	return tests.String()
}
