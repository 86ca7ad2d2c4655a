package cli

import (
	"flag"
	"fmt"
	"io"
)

// classicHelp is the first part of the help, which has always read like this.
const classicHelp = `Server node of the Iris decentralized cloud messaging framework.

Usage:

	iris [options]
	iris <command> [options]

The options are:

	-dev [=false] start in local developer mode (random cluster and key)
	-net name of the cluster to join or create
	-port [=55555] relay endpoint for locally connecting clients
	-rsa path to the RSA private key to use for data security`

// classicOptions are the options that classicHelp has already told.
func classicOption(name string) bool {
	return name == "dev" || name == "net" || name == "port" || name == "rsa"
}

// nodeHelp prints the help of iris itself.
func nodeHelp(w io.Writer, flags *flag.FlagSet) {
	fmt.Fprintln(w, classicHelp)
	fmt.Fprintln(w)
	flags.VisitAll(func(f *flag.Flag) {
		if !classicOption(f.Name) {
			printFlag(w, f)
		}
	})
	fmt.Fprint(w, "\nThe commands are:\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "\t%-9s %s\n", c.name, c.about)
	}
	fmt.Fprint(w, "\n`iris <command> -help` tells more. Exit codes: 0 done, 1 failed, 2 usage, 3 no node at that port,\n"+
		"4 no such service, 5 timeout, 6 key or authentication.\n")
}

// commandHelp prints the help of the named command.
func commandHelp(w io.Writer, name string, flags *flag.FlagSet) {
	for _, c := range commands() {
		if c.name == name {
			fmt.Fprintf(w, "%s\n\nUsage:\n\n\tiris %s %s\n", c.about, c.name, c.args)
		}
	}
	first := true
	flags.VisitAll(func(f *flag.Flag) {
		if first {
			fmt.Fprint(w, "\nThe options are:\n\n")
			first = false
		}
		printFlag(w, f)
	})
}

func printFlag(w io.Writer, f *flag.Flag) {
	if f.DefValue == "" || f.DefValue == "false" {
		fmt.Fprintf(w, "\t-%s %s\n", f.Name, f.Usage)
		return
	}
	fmt.Fprintf(w, "\t-%s [=%s] %s\n", f.Name, f.DefValue, f.Usage)
}
