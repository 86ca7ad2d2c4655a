// Command tidy keeps the go.mod and go.sum of every module of the workspace as
// `go mod tidy` wants them, without a replace directive in any of them.
//
//	go run ./cmd/internal/tidy          # tidy
//	go run ./cmd/internal/tidy -check   # exit 1 and name what is not tidy
//
// `go mod tidy` ignores go.work and would look for the sibling modules in the
// proxy. So each module is tidied in a copy of its go.mod that points at the
// siblings on disk, and the result is stored without those pointers.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// release is the version at which the modules require each other. `go mod tidy`
// drops the requirements that a module does not need.
const release = "v0.1.0"

// A module is one member of the workspace.
type module struct {
	path string // module path
	dir  string // absolute folder
}

func main() {
	check := flag.Bool("check", false, "change nothing; fail if a module is not tidy")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "tidy:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	modules, err := workspace()
	if err != nil {
		return err
	}
	untidy := 0
	for _, m := range modules {
		changed, err := m.tidy(modules, check)
		if err != nil {
			return fmt.Errorf("%s: %w", m.path, err)
		}
		for _, file := range changed {
			fmt.Println(file)
			untidy++
		}
	}
	if check && untidy > 0 {
		return fmt.Errorf("%d files are not tidy: run `go run ./cmd/internal/tidy`", untidy)
	}
	return nil
}

// workspace lists the modules that go.work uses.
func workspace() ([]module, error) {
	var work struct {
		Use []struct{ DiskPath string }
	}
	if err := goJSON(&work, "", "work", "edit", "-json"); err != nil {
		return nil, err
	}
	root, err := exec.Command("go", "env", "GOWORK").Output()
	if err != nil {
		return nil, err
	}
	var modules []module
	for _, use := range work.Use {
		dir := filepath.Join(filepath.Dir(string(bytes.TrimSpace(root))), use.DiskPath)
		mod, err := readMod(dir)
		if err != nil {
			return nil, err
		}
		if len(mod.Replace) > 0 {
			return nil, fmt.Errorf("%s: a replace directive must not stay in go.mod", mod.Module.Path)
		}
		modules = append(modules, module{mod.Module.Path, dir})
	}
	return modules, nil
}

// goMod is the part of `go mod edit -json` that matters here.
type goMod struct {
	Module  struct{ Path string }
	Replace []struct{ Old struct{ Path string } }
}

func readMod(dir string) (goMod, error) {
	var mod goMod
	err := goJSON(&mod, dir, "mod", "edit", "-json")
	return mod, err
}

// tidy brings m's go.mod and go.sum in order and returns the files that
// differed. With check it leaves them alone.
func (m module) tidy(all []module, check bool) ([]string, error) {
	tmp, err := os.MkdirTemp("", "tidy")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	mod, sum := filepath.Join(tmp, "go.mod"), filepath.Join(tmp, "go.sum")
	if err := copyFile(mod, filepath.Join(m.dir, "go.mod")); err != nil {
		return nil, err
	}
	if err := copyFile(sum, filepath.Join(m.dir, "go.sum")); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	if err := m.tidyCopy(all, mod); err != nil {
		return nil, err
	}
	var changed []string
	for _, pair := range [][2]string{{mod, "go.mod"}, {sum, "go.sum"}} {
		file := filepath.Join(m.dir, pair[1])
		differs, err := replaceIfDifferent(file, pair[0], check)
		if err != nil {
			return nil, err
		}
		if differs {
			changed = append(changed, file)
		}
	}
	return changed, nil
}

// tidyCopy runs `go mod tidy` on the copy of m's go.mod in file.
func (m module) tidyCopy(all []module, file string) error {
	var point, drop []string
	for _, sibling := range all {
		if sibling != m {
			point = append(point, "-replace="+sibling.path+"="+sibling.dir, "-require="+sibling.path+"@"+release)
			drop = append(drop, "-dropreplace="+sibling.path)
		}
	}
	if err := goRun("", append(append([]string{"mod", "edit"}, point...), file)...); err != nil {
		return err
	}
	if err := goRun(m.dir, "mod", "tidy", "-modfile="+file); err != nil {
		return err
	}
	return goRun("", append(append([]string{"mod", "edit", "-fmt"}, drop...), file)...)
}

func replaceIfDifferent(file, with string, check bool) (bool, error) {
	want, err := os.ReadFile(with)
	if err != nil && !os.IsNotExist(err) {
		return false, err
	}
	have, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return false, err
	}
	if bytes.Equal(want, have) || check {
		return !bytes.Equal(want, have), nil
	}
	if len(want) == 0 {
		return true, os.Remove(file)
	}
	return true, os.WriteFile(file, want, 0o644)
}

func copyFile(to, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}

// goRun runs the go command outside of the workspace, in dir.
func goRun(dir string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", args[0], err, out)
	}
	return nil
}

func goJSON(v any, dir string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go %s: %w", args[0], err)
	}
	return json.Unmarshal(out, v)
}
