// Command iris-subject lets iris-conformance drive the Go binding:
// conformance/docs/subject.md.
package main

import (
	"os"

	"github.com/project-iris/iris/cmd/internal/subject"
)

func main() { subject.Run(os.Stdin, os.Stdout) }
