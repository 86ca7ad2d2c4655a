// Command iris is a node of an Iris network and the tools around it.
//
// Without a command it runs a node until SIGINT or SIGTERM; `iris -help` lists
// its options and the commands.
package main

import (
	"os"

	"github.com/project-iris/iris/cmd/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
